//! For commands that a person waits for: the controller looks again by itself, a command would have to be started again.

use std::time::Duration;

use super::error::{Error, Meaning};

/// How often a read is made in all, and how long is waited after the first time.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);

/// Makes a read again that AWS throttled or did not answer.
///
/// # Errors
/// The last attempt failed too, or AWS refused.
pub async fn again<T, F>(mut read: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut pause = PAUSE;
    for _ in 1..ATTEMPTS {
        match read().await {
            Err(error) if matches!(error.meaning(), Meaning::Throttled | Meaning::Unavailable) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            done => return done,
        }
    }
    read().await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn attempts(error: &Error, good_at: u32) -> (u32, bool) {
        let made = Cell::new(0);
        let outcome = again(|| async {
            made.set(made.get() + 1);
            if made.get() == good_at { Ok(()) } else { Err(error.clone()) }
        })
        .await;
        (made.get(), outcome.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
        let silent = Error::NoReply { operation: "DescribeInstances", cause: "timeout".into() };
        assert_eq!(attempts(&silent, 3).await, (3, true));
        assert_eq!(attempts(&silent, 9).await, (4, false));
        let denied = Error::Refused {
            operation: "DescribeInstances",
            meaning: Meaning::Denied,
            code: "UnauthorizedOperation".into(),
            message: String::new(),
            request_id: None,
        };
        assert_eq!(attempts(&denied, 3).await, (1, false));
    }
}
