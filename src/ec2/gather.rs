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
