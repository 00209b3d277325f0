//! What the agent says: no model, but the truth about who is speaking.

use continuo_proto::worker::RunContext;
use serde_json::{Value, json};

/// Most characters of a message that an answer repeats.
const QUOTED_CHARS_MAX: usize = 200;

/// An answer, ready to be said.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) metadata: Value,
}

impl Answer {
    /// What is sent one at a time: a word with the space after it.
    pub(super) fn tokens(&self) -> impl Iterator<Item = &str> {
        self.text.split_inclusive(' ')
    }
}

/// The run, as it introduces itself.
pub(super) struct Speaker {
    run_id: String,
    attempt_number: u32,
    previous_run_id: Option<String>,
    is_resumed: bool,
    /// The next answer begins anew what an earlier run, or attempt, could not end.
    is_repeating: bool,
}

impl Speaker {
    pub(super) fn new(ctx: &RunContext, payload: &Value, is_repeating: bool) -> Self {
        let is_continuation = payload["continuation"] == true;
        let previous = payload["previousRunId"].as_str().unwrap_or("an earlier run");
        Self {
            run_id: ctx.run_id().to_owned(),
            attempt_number: ctx.attempt_number(),
            previous_run_id: is_continuation.then(|| previous.to_owned()),
            is_resumed: ctx.resumed_by().is_some(),
            is_repeating,
        }
    }

    pub(super) fn answer(&mut self, text: &str, number: u64) -> Answer {
        let said = match quoted(text) {
            Some(text) => format!("You said: “{text}”."),
            None => "You sent a message without text.".to_owned(),
        };
        let again = match std::mem::take(&mut self.is_repeating) {
            true => "An earlier attempt at this answer was cut off, so here it is from the beginning. ",
            false => "",
        };
        let who = self.who();
        self.speak(format!(
            "{again}{said} This is message {number} of this session, answered by {who}. Reload the page and this answer \
             goes on where you were. Cancel the run and your next message is answered by a new one, in this same \
             conversation: the session stays while its runs come and go. Say upgrade to see one run hand over to the next."
        ))
    }

    pub(super) fn farewell(&mut self) -> Answer {
        self.is_repeating = false;
        let run_id = &self.run_id;
        self.speak(format!(
            "{run_id} hands this session over to a new run now, with the reason upgrade. Your next message goes to \
             that one."
        ))
    }

    fn who(&self) -> String {
        let attempt = match self.attempt_number {
            0 | 1 => String::new(),
            n => format!(" (attempt {n})"),
        };
        let past = match &self.previous_run_id {
            Some(previous) => format!("which took over from {previous}"),
            None => "the first run of the session".to_owned(),
        };
        let wait = if self.is_resumed { ", back from a wait that cost nothing" } else { "" };
        format!("{}{attempt}, {past}{wait}", self.run_id)
    }

    fn speak(&self, text: String) -> Answer {
        let metadata = json!({
            "runId": self.run_id,
            "attempt": self.attempt_number,
            "continuation": self.previous_run_id.is_some(),
        });
        Answer { text, metadata }
    }
}

/// On one line and not too long.
fn quoted(text: &str) -> Option<String> {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(QUOTED_CHARS_MAX) {
        _ if words.is_empty() => None,
        None => Some(words),
        Some((end, _)) => Some(format!("{}…", &words[..end])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaker() -> Speaker {
        Speaker {
            run_id: "run_b".to_owned(),
            attempt_number: 1,
            previous_run_id: Some("run_a".to_owned()),
            is_resumed: false,
            is_repeating: true,
        }
    }

    #[test]
    fn an_answer_says_who_speaks_and_comes_in_words() {
        let mut speaker = speaker();
        let first = speaker.answer("hi  there", 3);
        assert!(first.text.contains("You said: “hi there”. This is message 3 of this session, answered by run_b,"));
        assert!(first.text.contains("took over from run_a"));
        assert!(first.text.starts_with("An earlier attempt"));
        assert_eq!(first.tokens().collect::<String>(), first.text);

        let second = speaker.answer("hi", 4);
        assert!(second.text.starts_with("You said"), "the notice comes once");
        assert!((40..=80).contains(&second.tokens().count()), "{}", second.tokens().count());
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        assert_eq!(quoted(&"ä".repeat(201)).unwrap().chars().count(), QUOTED_CHARS_MAX + 1);
        assert_eq!(quoted(" \n"), None);
    }
}
