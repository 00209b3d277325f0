//! Nobody to tell.

use async_trait::async_trait;
use continuo_ports::{Hint, Hints};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

/// The hints of a replica that is alone: none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHints;

#[async_trait]
impl Hints for NoHints {
    async fn send(&self, _hints: Vec<Hint>) {}

    fn receive(&self) -> BoxStream<'static, Option<Hint>> {
        stream::once(async { None }).chain(stream::pending()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn it_listens_and_hears_nothing_not_even_itself() {
        let mut heard = NoHints.receive();
        assert_eq!(heard.next().await, Some(None));
        NoHints.send(vec![Hint::Timers]).await;
        assert_eq!(heard.next().now_or_never(), None);
    }
}
