//! The circuit breaker's books: which repairs of drift are due in each namespace, and which of them are held.
//!
//! A listing comes as a whole: before the first repair that it leads to, every binding of the namespace whose instance
//! differs in it is either counted or known not to be a repair (`suspects`). A hold has an id that stays while it
//! lasts. Status tells it, and so a process that comes to lead goes on with it; that is a note and no right: only a grant's
//! annotation lets a hold go on, and who may write the status of a binding may as well edit the binding, which nothing
//! holds.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kube::ResourceExt;

use super::context::Context;
use super::entitle::{Recount, entitle};
use super::gather;
use crate::api::binding::InstanceRoleBindingStatus;
use crate::api::condition::{self, ConditionType};
use crate::api::{APPROVE_CHANGES, InstanceRoleBinding};
use crate::decide::circuit::{Tally, Verdict, differs};
use crate::decide::{Ceiling, Circuit, Grade, Reason};

/// How many characters an id has.
const LENGTH: usize = 10;

/// The books of all namespaces.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<HashMap<String, Books>>);

#[derive(Debug, Default)]
struct Books {
    /// The repairs that are due, by UID, each with the hold that it came under.
    due: HashMap<String, Option<Arc<str>>>,
    /// Bindings whose instance differs in the newest listing, and of which nothing was decided since.
    suspects: HashSet<String>,
    /// The listing that those are from.
    listing: Option<u64>,
    /// The hold that stands.
    open: Option<Arc<str>>,
}

/// What a repair is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// It may be made.
    Go,
    /// Others are to be looked at first.
    Wait,
    /// It is held.
    Held(Circuit),
}

impl Breaker {
    /// Enters a repair that is due, and says whether it may be made. `began`: since when this process leads.
    pub fn weigh(&self, ctx: &Context, binding: &InstanceRoleBinding, began: Timestamp) -> Word {
        let Some(most) = ctx.settings.ceiling else { return Word::Go };
        let namespace = binding.namespace().unwrap_or_default();
        let uid = binding.uid().unwrap_or_default();
        let covering = ctx.grants.covering(&namespace);
        let approved = |id: &Arc<str>| covering.iter().any(|grant| grant.approves(id));
        let limit = most.of(ctx.bindings.in_namespace(&namespace).0);
        let mut all = self.books();
        let books = all.entry(namespace.clone()).or_default();
        books.suspects.remove(&uid);
        let under =
            books.due.entry(uid.clone()).or_insert_with(|| held_before(binding.status.as_ref(), began));
        if under.as_ref().is_some_and(approved) {
            let over = books.open.is_some() && books.open == *under;
            if over && let Some(id) = books.open.take() {
                tracing::warn!(
                    namespace,
                    id = &*id,
                    "an administrator lets the repairs go on that were held"
                );
            }
            Self::count_open(ctx, &all);
            return Word::Go;
        }
        let listing = ctx.cloud.listings();
        if books.listing.replace(listing) != Some(listing) {
            books.survey(ctx, &namespace);
        }
        let due = books.due.values().filter(|under| !under.as_ref().is_some_and(approved)).count();
        let word = match (Tally { due, suspected: books.suspects.len() }).verdict(limit) {
            Verdict::Closed => {
                books.close(&namespace);
                Word::Go
            }
            Verdict::Unclear => Word::Wait,
            Verdict::Open => {
                Word::Held(Circuit { id: books.hold(&namespace, &uid, due, most, approved), most })
            }
        };
        Self::count_open(ctx, &all);
        word
    }

    /// Nothing is to be repaired there, as was seen just now, or the binding is gone.
    pub fn clear(&self, ctx: &Context, namespace: &str, uid: &str) {
        let Some(most) = ctx.settings.ceiling else { return };
        let mut all = self.books();
        let Some(books) = all.get_mut(namespace) else { return };
        books.suspects.remove(uid);
        if books.due.remove(uid).is_none() {
            return;
        }
        let covering = ctx.grants.covering(namespace);
        let approved = |id: &Arc<str>| covering.iter().any(|grant| grant.approves(id));
        let due = books.due.values().filter(|under| !under.as_ref().is_some_and(approved)).count();
        if books.open.is_some() && due <= most.of(ctx.bindings.in_namespace(namespace).0) {
            books.close(namespace);
            // Those that are left may go on.
            ctx.grants.touch(namespace);
        }
        if books.due.is_empty() && books.suspects.is_empty() {
            all.remove(namespace);
        }
        Self::count_open(ctx, &all);
    }

    /// Another process led, or comes to lead.
    pub fn start_over(&self, ctx: &Context) {
        let mut all = self.books();
        all.clear();
        Self::count_open(ctx, &all);
    }

    fn count_open(ctx: &Context, all: &HashMap<String, Books>) {
        ctx.metrics.circuits_open(all.values().filter(|books| books.open.is_some()).count());
    }

    fn books(&self) -> MutexGuard<'_, HashMap<String, Books>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Goes through all bindings of the namespace, once for each listing. Nobody is lost who is looked at meanwhile: what is
    /// decided of it takes it from the suspects.
    fn survey(&mut self, ctx: &Context, namespace: &str) {
        let (mut there, mut differing) = (HashSet::new(), Vec::new());
        for binding in ctx.bindings.of_namespace(namespace) {
            let uid = binding.uid();
            differing.extend(uid.clone().filter(|_| is_suspect(ctx, &binding)));
            there.extend(uid);
        }
        // Who went while nobody watched.
        self.due.retain(|uid, _| there.contains(uid));
        differing.retain(|uid| !self.due.contains_key(uid));
        self.suspects = differing.into_iter().collect();
    }

    /// The id of the hold that a repair comes under: the one that stands, or that is known from before, or a new one.
    fn hold(
        &mut self,
        namespace: &str,
        uid: &str,
        due: usize,
        most: Ceiling,
        approved: impl Fn(&Arc<str>) -> bool,
    ) -> Arc<str> {
        let before = || self.due.values().flatten().filter(|id| !approved(id)).min().cloned();
        let id = self.open.clone().or_else(before);
        let id = id.unwrap_or_else(|| new_id(namespace, self.due.keys()));
        if self.open.is_none() {
            tracing::warn!(namespace, id = &*id, due, most = %most, "more repairs are due at once than are plausible: none is made (--max-changes-per-pass)");
        }
        self.open = Some(Arc::clone(&id));
        self.due.insert(uid.to_owned(), Some(Arc::clone(&id)));
        id
    }

    /// So few are due that none is held.
    fn close(&mut self, namespace: &str) {
        if let Some(id) = self.open.take() {
            tracing::warn!(
                namespace,
                id = &*id,
                "no more repairs are due than are plausible: they are held no longer"
            );
            self.due.values_mut().filter(|under| under.as_ref() == Some(&id)).for_each(|under| *under = None);
        }
    }
}

/// Another one for each hold.
fn new_id<'a>(namespace: &str, due: impl Iterator<Item = &'a String>) -> Arc<str> {
    let mut hasher = DefaultHasher::new();
    let mut due: Vec<&String> = due.collect();
    due.sort();
    (namespace, due, Timestamp::now().as_nanosecond()).hash(&mut hasher);
    let mut id = format!("{:016x}", hasher.finish());
    id.truncate(LENGTH);
    id.into()
}

/// The hold that a former process has told in status. What was told since this one leads it knows by itself.
fn held_before(status: Option<&InstanceRoleBindingStatus>, began: Timestamp) -> Option<Arc<str>> {
    let stalled = condition::find(&status?.conditions, ConditionType::Stalled)?;
    let told = stalled.reason == Reason::CircuitOpen.as_str() && stalled.last_transition_time.0 <= began;
    let (_, after) = stalled.message.split_once(APPROVE_CHANGES).filter(|_| told)?;
    let id: String = after.strip_prefix('=')?.chars().take_while(char::is_ascii_hexdigit).collect();
    (id.len() == LENGTH).then(|| id.into())
}

/// Whether a binding was in sync, and its instance differs by what is known of it now.
fn is_suspect(ctx: &Context, binding: &InstanceRoleBinding) -> bool {
    let Some(status) = binding.status.as_ref().filter(|_| binding.metadata.deletion_timestamp.is_none())
    else {
        return false;
    };
    let (Ok(desired), Some(spot)) = (gather::desired(binding, &ctx.settings), ctx.bindings.spot(binding))
    else {
        return false;
    };
    let Ok(entitled) = entitle(ctx, binding, &desired, &spot, Recount::Sparing) else { return false };
    let Some(connection) = ctx.cloud.connected(&entitled.credentials, &spot.region) else { return false };
    let resolution = connection.catalogue.resolve(&desired.declared);
    let was_in_sync = || gather::history(binding, status, &resolution, &[]).was_in_sync;
    let now = Timestamp::now();
    let view = || connection.fleet.observed(&spot.instance, now, Timestamp::MIN).view;
    desired.writes()
        && was_in_sync()
        && view().is_some_and(|view| view.grade != Grade::Unsettled && differs(&resolution, &view))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn told(reason: &str, message: &str) -> InstanceRoleBindingStatus {
        serde_json::from_value(json!({"conditions": [{
            "type": "Stalled", "status": "True", "reason": reason, "message": message, "lastTransitionTime": at(0).to_string(),
        }]}))
        .unwrap()
    }

    #[test]
    fn a_hold_is_known_again_by_the_words_of_a_former_leader() {
        let message = "kubectl annotate irg team instancerole.dev/approve-changes=0123456789 --overwrite";
        let before = |status: &InstanceRoleBindingStatus, second| held_before(Some(status), at(second));
        assert_eq!(before(&told("CircuitOpen", message), 5).as_deref(), Some("0123456789"));
        assert_eq!(before(&told("CircuitOpen", message), -5), None, "told since, and not by this process");
        assert_eq!(before(&told("AccessDenied", message), 5), None);
        for words in [
            "",
            "instancerole.dev/approve-changes",
            "instancerole.dev/approve-changes=0123",
            "approve-changes=xyz",
        ] {
            assert_eq!(before(&told("CircuitOpen", words), 5), None, "{words}");
        }
    }

    #[test]
    fn a_hold_keeps_its_id_while_it_stands_and_the_next_one_has_another() {
        let mut books = Books::default();
        let due = |books: &mut Books, uid: &str| books.hold("team-a", uid, 6, Ceiling::Number(5), |_| false);
        let first = due(&mut books, "a");
        assert_eq!(due(&mut books, "b"), first);
        assert_eq!(first.len(), LENGTH);
        books.close("team-a");
        assert!(books.due.values().all(Option::is_none), "nothing is under a hold that is over");
        assert_ne!(due(&mut books, "a"), first);
    }

    #[test]
    fn what_comes_after_an_approval_is_another_hold() {
        let mut books = Books::default();
        let first = books.hold("team-a", "a", 6, Ceiling::Number(5), |_| false);
        books.open = None;
        let next = books.hold("team-a", "b", 6, Ceiling::Number(5), |id| *id == first);
        assert_ne!(next, first);
        assert_eq!(books.due.get("a"), Some(&Some(first)), "what was approved stays so");
    }
}
