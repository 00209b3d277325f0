//! The answer of a stream that has a task behind it: what the task says, then how it ended.

use crate::services::panicked;
use crate::status::of_error;
use futures_util::Stream;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Status;

/// What comes through the channel, and once it is closed the task's error, if it ended with one. The error needs no room in
/// the channel, so a caller that does not read still finds it at the end. Dropping the stream closes the channel, which is
/// how the task learns that nobody listens any more.
pub(crate) fn with_last_word<T: Send + 'static>(
    items: mpsc::Receiver<T>,
    task: JoinHandle<Result<(), Status>>,
) -> impl Stream<Item = Result<T, Status>> + Send + 'static {
    stream::unfold(Some((items, task)), |state| async {
        let (mut items, task) = state?;
        if let Some(item) = items.recv().await {
            return Some((Ok(item), Some((items, task))));
        }
        match task.await {
            Ok(Ok(())) => None,
            Ok(Err(status)) => Some((Err(status), None)),
            Err(broken) => Some((Err(of_error(panicked(broken))), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use continuo_domain::Error;
    use futures_util::StreamExt;

    #[tokio::test]
    async fn the_error_comes_after_everything_else() {
        let (sender, items) = mpsc::channel(2);
        let task = tokio::spawn(async move {
            sender.send(1).await.unwrap();
            sender.send(2).await.unwrap();
            Err(of_error(Error::Stopping))
        });
        let answer: Vec<_> = with_last_word(items, task).map(|item| item.map_err(|s| s.code())).collect().await;
        assert_eq!(answer, [Ok(1), Ok(2), Err(tonic::Code::Unavailable)]);
    }

    #[tokio::test]
    async fn a_panic_is_no_clean_end() {
        let (sender, items) = mpsc::channel::<u8>(1);
        let task = tokio::spawn(async move {
            drop(sender);
            panic!("boom");
        });
        let answer: Vec<_> = with_last_word(items, task).map(|item| item.map_err(|s| s.code())).collect().await;
        assert_eq!(answer, [Err(tonic::Code::Internal)]);
    }
}
