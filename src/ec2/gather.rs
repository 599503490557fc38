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
/// … and for this long where the last call took a crowd along: then there are more to come.
const CROWDED: Duration = Duration::from_millis(100);
/// But not for longer than this.
const LONGEST: Duration = Duration::from_millis(500);
/// From so many on it is a crowd.
const CROWD: usize = 5;

type Ask = (InstanceId, oneshot::Sender<Result<(), Error>>);
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
            let mut window = WINDOW;
            while let Some(first) = inbox.recv().await {
                let mut batch = vec![first];
                gather(&mut inbox, &mut batch, window).await;
                let token = token();
                tokio::pin!(token);
                let token = loop {
                    tokio::select! {
                        token = &mut token => break token,
                        Some(ask) = inbox.recv(), if batch.len() < FILTER_VALUES => batch.push(ask),
                    }
                };
                window = if batch.len() < CROWD { WINDOW } else { CROWDED };
                let call = Arc::clone(&call);
                tokio::spawn(async move {
                    let mut ids: Vec<InstanceId> = batch.iter().map(|(id, _)| id.clone()).collect();
                    ids.sort();
                    ids.dedup();
                    let answer = call(ids, token).await;
                    for (_, reply) in batch {
                        // Who no longer waits for the answer needs none.
                        let _ = reply.send(answer.clone());
                    }
                });
            }
        });
        Self { asks }
    }

    /// Looks up one instance, together with whoever asks at the same time.
    pub async fn look(&self, id: &InstanceId) -> Result<(), Error> {
        let lost =
            || Error::NoReply { operation: "Describe", cause: "the look-up was dropped at shutdown".into() };
        let (reply, answer) = oneshot::channel();
        self.asks.send((id.clone(), reply)).map_err(|_| lost())?;
        answer.await.map_err(|_| lost())?
    }
}

/// Takes in those who ask while the window is open.
async fn gather(inbox: &mut mpsc::UnboundedReceiver<Ask>, batch: &mut Vec<Ask>, window: Duration) {
    let closes = Instant::now() + LONGEST;
    while batch.len() < FILTER_VALUES {
        let until = closes.min(Instant::now() + window);
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
        assert!(join_all(ids.iter().map(|id| gather.look(id))).await.iter().all(Result::is_ok));
        assert_eq!(*calls.lock().unwrap(), [200, 200, 50]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_delays_only_those_that_are_in_it() {
        let (gather, calls) = gathering(free, true);
        let hung = tokio::spawn({
            let gather = gather.clone();
            async move { gather.look(&id(0)).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        for n in 1..4 {
            gather.look(&id(n)).await.unwrap();
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
                gather.look(&id(usize::try_from(n).unwrap())).await
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
