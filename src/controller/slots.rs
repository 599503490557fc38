//! How many passes work at the same time. One that waits for AWS works not, so it gives its slot to another: a hung call
//! holds up nobody else, and many who wait share one look.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// For each pass that works, so many may wait.
const WAITING: u16 = 16;

/// The slots of all passes.
#[derive(Debug, Clone)]
pub struct Slots(Arc<Semaphore>);

/// The slot of one pass.
#[derive(Debug)]
pub struct Slot {
    all: Slots,
    held: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// As many slots as passes may work at the same time.
    pub fn new(working: u16) -> Self {
        Self(Arc::new(Semaphore::new(usize::from(working))))
    }

    /// How many passes may be under way, working or waiting.
    pub fn under_way(working: u16) -> u16 {
        working.saturating_mul(WAITING)
    }

    /// Waits for a slot.
    pub async fn take(&self) -> Slot {
        Slot { all: self.clone(), held: self.one().await }
    }

    async fn one(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed, so this cannot fail.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

impl Slot {
    /// Gives the slot away while `waits` goes on, and has one again after it.
    pub async fn lend<T>(&mut self, waits: impl Future<Output = T>) -> T {
        self.held = None;
        let result = waits.await;
        self.held = self.all.one().await;
        result
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn who_waits_lends_its_slot_and_has_one_again_after() {
        let slots = Slots::new(1);
        let mut first = slots.take().await;
        first.lend(async { drop(slots.take().await) }).await;
        assert!(first.held.is_some());
    }

    #[tokio::test]
    async fn no_more_work_than_there_are_slots() {
        let slots = Slots::new(1);
        let first = slots.take().await;
        assert!(tokio::time::timeout(Duration::from_millis(20), slots.take()).await.is_err());
        drop(first);
        slots.take().await;
    }
}
