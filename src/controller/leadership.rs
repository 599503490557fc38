//! Whether this process leads, for everything that works only then.

use jiff::Timestamp;
use tokio::sync::watch;

use crate::lease::Fence;

/// One time of leading.
#[derive(Debug, Clone)]
pub struct Term {
    /// Open while anything may be written.
    pub fence: Fence,
    /// When it began. What was written before was written by somebody else, or by this process in another time.
    pub began: Timestamp,
}

/// Whether this process leads.
#[derive(Debug, Clone, Default)]
pub struct Leadership(watch::Sender<Option<Term>>);

impl Leadership {
    /// The present term; none: it stands by.
    pub fn term(&self) -> Option<Term> {
        self.0.borrow().clone()
    }

    /// Begins a term.
    pub fn begin(&self, term: Term) {
        self.0.send_replace(Some(term));
    }

    /// Ends it.
    pub fn end(&self) {
        self.0.send_replace(None);
    }

    /// Waits until a term is over.
    pub async fn is_over(&self, term: &Term) {
        let another = |now: &Option<Term>| !now.as_ref().is_some_and(|now| now.fence.is_same(&term.fence));
        // The sender lives as long as self, so this cannot fail.
        let _ = self.0.subscribe().wait_for(another).await;
    }

    /// Waits for the next term after `before`.
    pub async fn next(&self, before: Option<&Term>) -> Term {
        let news = |now: &Term| before.is_none_or(|before| !now.fence.is_same(&before.fence));
        let mut terms = self.0.subscribe();
        loop {
            if let Ok(now) = terms.wait_for(|now| now.as_ref().is_some_and(news)).await
                && let Some(term) = now.clone()
            {
                return term;
            }
        }
    }
}
