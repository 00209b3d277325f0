//! An answer that stays open counts as long as the credential it was asked for with.

use crate::services::Answer;
use crate::status::of_error;
use continuo_usecases::Standing;
use futures_util::stream::{self, StreamExt};

/// The answer, up to the end of the credential, which is told as it is told to a new call. What stands behind the answer sees
/// a client that hangs up: an append under way is brought to its end, and nothing further is begun. Because an answer that
/// nobody takes is not looked at, what the client sends is to end with the credential too ([`Standing::ended`]).
pub(crate) fn while_it_counts<T: Send + 'static>(answer: Answer<T>, standing: Standing) -> Answer<T> {
    let answer = answer.take_until(standing.ended());
    let refusal = stream::once(async move { standing.problem() });
    let refusal = refusal.filter_map(|problem| async { problem.map(|problem| Err(of_error(problem))) });
    answer.chain(refusal).boxed()
}
