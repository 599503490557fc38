//! Look-ups that come within a moment of each other share one call.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::client::{FILTER_VALUES, ReadToken};
use super::error::Error;
use crate::ids::InstanceId;

/// How long a look-up waits for others, far below what a person notices; each that comes along keeps the window open for
/// as long again …
const WINDOW: Duration = Duration::from_millis(15);
/// … and for this long where a call took a crowd along a moment ago: then there are more to come.
const CROWDED: Duration = Duration::from_millis(100);
/// But not for longer than this after one has come who is in a hurry …
const HURRY: Duration = Duration::from_millis(500);
/// … and in a crowd for this long after one who is not, come others or not.
const LEISURE: Duration = Duration::from_secs(3);
/// From so many on it is a crowd.
const CROWD: usize = 5;
/// … and for so long more are expected: longer than from one crowd of looks that fell due together to the next.
const AFTERWARDS: Duration = Duration::from_secs(7);

/// How long a look-up may wait for others where a crowd asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Something is to be done by it.
    Hurry,
    /// Nothing is to be done by it yet.
    Leisure,
}

/// Who asks, and until when the window may be kept open for more.
#[derive(Debug)]
struct Ask {
    id: InstanceId,
    pace: Pace,
    until: Instant,
    reply: oneshot::Sender<Result<(), Error>>,
}

type Answer = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Gathers look-ups by instance id into calls of at most [`FILTER_VALUES`]. Calls run side by side: a slow one
/// delays only those that are in it. While there is no right to make a call, the window stays open: a scarce call takes
/// all who wait along.
#[derive(Debug, Clone)]
pub struct Gather {
    asks: mpsc::UnboundedSender<Ask>,
}

impl Gather {
    /// Starts gathering; `call` looks up a batch, by the token that `token` waited for, and keeps what it finds. It ends
    /// when the last clone is dropped.
    pub fn new<W>(
        token: impl Fn() -> W + Send + Sync + 'static,
        call: impl Fn(Vec<InstanceId>, ReadToken) -> Answer + Send + Sync + 'static,
    ) -> Self
    where
        W: Future<Output = ReadToken> + Send + 'static,
    {
        let (asks, mut inbox) = mpsc::unbounded_channel::<Ask>();
        let call = Arc::new(call);
        tokio::spawn(async move {
            let mut crowd: Option<Instant> = None;
            while let Some(first) = inbox.recv().await {
                let mut batch = vec![first];
                let crowded = crowd.is_some_and(|last| last.elapsed() < AFTERWARDS);
                gather(&mut inbox, &mut batch, crowded).await;
                let token = token();
                tokio::pin!(token);
                let token = loop {
                    tokio::select! {
                        token = &mut token => break token,
                        Some(ask) = inbox.recv(), if batch.len() < FILTER_VALUES => batch.push(ask),
                    }
                };
                if batch.len() >= CROWD {
                    crowd = Some(Instant::now());
                }
                let call = Arc::clone(&call);
                tokio::spawn(async move {
                    let mut ids: Vec<InstanceId> = batch.iter().map(|ask| ask.id.clone()).collect();
                    ids.sort();
                    ids.dedup();
                    let answer = call(ids, token).await;
                    for ask in batch {
                        // Who no longer waits for the answer needs none.
                        let _ = ask.reply.send(answer.clone());
                    }
                });
            }
        });
        Self { asks }
    }

    /// Looks up one instance, together with whoever asks at the same time.
    pub async fn look(&self, id: &InstanceId, pace: Pace) -> Result<(), Error> {
        let lost =
            || Error::NoReply { operation: "Describe", cause: "the look-up was dropped at shutdown".into() };
        let (reply, answer) = oneshot::channel();
        let until = Instant::now()
            + match pace {
                Pace::Hurry => HURRY,
                Pace::Leisure => LEISURE,
            };
        self.asks.send(Ask { id: id.clone(), pace, until, reply }).map_err(|_| lost())?;
        answer.await.map_err(|_| lost())?
    }
}

/// Takes in those who ask while the window is open.
async fn gather(inbox: &mut mpsc::UnboundedReceiver<Ask>, batch: &mut Vec<Ask>, crowded: bool) {
    while batch.len() < FILTER_VALUES {
        let closes = batch.iter().map(|ask| ask.until).min();
        let window = match crowded {
            false => WINDOW,
            true if batch.iter().all(|ask| ask.pace == Pace::Leisure) => LEISURE,
            true => CROWDED,
        };
        let until = closes.into_iter().fold(Instant::now() + window, Instant::min);
        match tokio::time::timeout_at(until, inbox.recv()).await {
            Ok(Some(ask)) => batch.push(ask),
            Ok(None) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::future::{join_all, pending};
    use tokio::sync::Notify;

    use super::*;

    fn id(n: usize) -> InstanceId {
        InstanceId::parse(&format!("i-{n:08x}")).unwrap()
    }

    /// The sizes of the calls made so far.
    type Calls = Arc<Mutex<Vec<usize>>>;

    /// Gathers for calls of which the first never ends if it is to hang.
    fn gathering<W>(token: impl Fn() -> W + Send + Sync + 'static, hangs: bool) -> (Gather, Calls)
    where
        W: Future<Output = ReadToken> + Send + 'static,
    {
        let (calls, hangs) = (Calls::default(), AtomicBool::new(hangs));
        let made = Arc::clone(&calls);
        let gather = Gather::new(token, move |ids, _| {
            made.lock().unwrap().push(ids.len());
            let hangs = hangs.swap(false, Ordering::Relaxed);
            Box::pin(async move { if hangs { pending().await } else { Ok(()) } })
        });
        (gather, calls)
    }

    async fn free() -> ReadToken {
        ReadToken::free()
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_come_together_share_calls_of_two_hundred() {
        let (gather, calls) = gathering(free, false);
        let ids: Vec<InstanceId> = (0..450).map(id).collect();
        assert!(join_all(ids.iter().map(|id| gather.look(id, Pace::Hurry))).await.iter().all(Result::is_ok));
        assert_eq!(*calls.lock().unwrap(), [200, 200, 50]);
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_crowd_who_is_not_in_a_hurry_waits_for_company_and_who_is_takes_them_along() {
        let (gather, calls) = gathering(free, false);
        // A crowd, after which more are expected.
        join_all((0..10).map(id).collect::<Vec<_>>().iter().map(|id| gather.look(id, Pace::Hurry))).await;
        let one_each = |from: u64, to: u64, pace: Pace| {
            let gather = &gather;
            let looks = (from..to).map(move |n| async move {
                tokio::time::sleep(Duration::from_millis(130 * (n - from))).await;
                let began = Instant::now();
                gather.look(&id(usize::try_from(n).unwrap()), pace).await.unwrap();
                began.elapsed()
            });
            join_all(looks.collect::<Vec<_>>())
        };
        let waited = one_each(10, 30, Pace::Leisure).await;
        assert!(waited.iter().all(|waited| *waited <= LEISURE), "{waited:?}");
        assert_eq!(*calls.lock().unwrap(), [10, 20], "though none came within {CROWDED:?}");
        let hurried = one_each(30, 50, Pace::Hurry).await;
        assert!(hurried.iter().all(|waited| *waited <= HURRY), "{hurried:?}");
        assert!(calls.lock().unwrap().len() >= 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_delays_only_those_that_are_in_it() {
        let (gather, calls) = gathering(free, true);
        let hung = tokio::spawn({
            let gather = gather.clone();
            async move { gather.look(&id(0), Pace::Hurry).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        for n in 1..4 {
            gather.look(&id(n), Pace::Hurry).await.unwrap();
        }
        assert!(!hung.is_finished());
        assert_eq!(*calls.lock().unwrap(), [1, 1, 1, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn while_there_is_no_token_all_who_come_are_taken_along() {
        let right = Arc::new(Notify::new());
        let waits = Arc::clone(&right);
        let token = move || {
            let waits = Arc::clone(&waits);
            async move {
                waits.notified().await;
                ReadToken::free()
            }
        };
        let (gather, calls) = gathering(token, false);
        let late = (0..20).map(|n| {
            let gather = &gather;
            async move {
                tokio::time::sleep(Duration::from_secs(n)).await;
                gather.look(&id(usize::try_from(n).unwrap()), Pace::Hurry).await
            }
        });
        let granted = async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            right.notify_one();
        };
        let (looks, ()) = tokio::join!(join_all(late), granted);
        assert!(looks.iter().all(Result::is_ok));
        assert_eq!(*calls.lock().unwrap(), [20]);
    }
}
