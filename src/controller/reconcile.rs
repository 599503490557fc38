//! One pass over one binding: gather, decide, look or act, report.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use tokio::time::timeout;

use super::act::{self, Outcome};
use super::bindings::{Key, Spot};
use super::breaker::Word;
use super::context::Context;
use super::entitle::{Recount, entitle};
use super::events::Tale;
use super::gather::{Facts, Question, Rival};
use super::leadership::Term;
use super::memory;
use super::passes::Action;
use super::slots::Slot;
use super::tell;
use super::{gather, kubernetes, report};
use crate::api::InstanceRoleBinding;
use crate::api::binding::{DeletionPolicy, InstanceRoleBindingStatus, Mode, Operation};
use crate::decide::{
    Authority, Cadence, Contention, Credentials, Decision, Declared, Desired, Evidence, Farewell, Instance,
    InstanceState, Lack, Observed, Phase, Reason, Resolution, Restraint, Rows, Step, circuit, contention,
    trouble, without_rights,
};
use crate::ec2::fleet::Pace;
use crate::ec2::{Connection, Error};

/// Decisions in one pass: two halves of a swap with a look before each, and the report after.
const ROUNDS: usize = 8;
/// A wait for a turn shorter than this is not told: it would be over before anybody reads it.
const WORTH_TELLING: Duration = Duration::from_secs(5);
/// How long a worker waits for what others need as well, before it turns to another binding.
const SHORTLY: Duration = Duration::from_secs(1);
/// Looks at what is under way fall on a grid, so that many share a call: a fine one, and a coarse one while many changes
/// wait for their turn.
const FINE: Duration = Duration::from_millis(250);
const COARSE: Duration = Duration::from_secs(5);
/// How soon to see again how many repairs are due in the namespace.
const COUNTING: Duration = Duration::from_millis(300);
/// How soon to see again whether a rival's rights can be told.
const IN_DOUBT: SignedDuration = SignedDuration::from_secs(5);
/// How soon to look again after a newer object refused a write: its own event usually comes first.
const OVERTAKEN: Duration = Duration::from_secs(1);

/// One binding in the course of a pass.
#[derive(Debug)]
pub struct Subject {
    pub key: Key,
    pub uid: String,
    pub object: Arc<InstanceRoleBinding>,
    /// The status as it will be told: ahead of `object`'s between a reply and its report.
    pub status: InstanceRoleBindingStatus,
    pub desired: Desired,
    pub spot: Spot,
    pub credentials: Credentials,
    pub connection: Connection,
    /// The time of leading that the pass belongs to: it writes in no other.
    pub term: Term,
    /// What is to be looked at again whatever is known, because it was asked for, is due, or is out of date.
    pub look_again: Evidence,
    /// Whether that look shares its call with those of many others that fall due at the same time.
    patient: bool,
    /// Whether the instance was seen running when the last decision was made.
    pub was_running: bool,
    /// Whether the first half of a swap is done and the second is not.
    pub swapping: bool,
    /// What was last known of its rights.
    pub authority: Authority,
    /// Whether a rival stands in its way whose rights cannot be told yet.
    pub doubtful: bool,
    /// The field manager that declared the profile, once a write is due.
    pub declared_by: Option<String>,
    /// The request for a look that this pass answers.
    pub heard: Option<String>,
    /// Whether a look was asked for that was not made yet.
    asked: bool,
}

/// What is known at the moment of a decision.
#[derive(Debug)]
pub struct Known {
    pub resolution: Resolution,
    pub observed: Observed,
    pub decision: Decision,
    /// Others keep changing the instance.
    pub contention: Option<Contention>,
    /// Whether others are to be looked at before the repair, to know how many are due.
    pub uncounted: bool,
}

/// One pass. `Err` means that the API server could not be written to.
pub async fn reconcile(
    object: Arc<InstanceRoleBinding>,
    ctx: &Arc<Context>,
    term: Term,
) -> Result<Action, kubernetes::Error> {
    let key = Key::of(&*object);
    let desired = match gather::desired(&object, &ctx.settings) {
        Ok(desired) => desired,
        Err(malformed) => {
            tracing::error!(binding = %key, %malformed, "the spec cannot be read; it was stored before the CRD's rules");
            return Ok(Action::await_change());
        }
    };
    let Some(spot) = ctx.bindings.spot(&object) else { return Ok(Action::await_change()) };
    tracing::Span::current().record("region", tracing::field::display(&spot.region));
    let mut slot = ctx.slots.take().await;
    // Nobody is taken for unauthorised before the grants were read. No worker is held for what may take long.
    if slot.lend(timeout(SHORTLY, ctx.grants.known())).await.is_err() {
        return Ok(Action::requeue(SHORTLY));
    }
    // Whoever is not seen yet may be the older one.
    if !ctx.bindings.is_listed() {
        return Ok(Action::requeue(SHORTLY));
    }
    let now = Timestamp::now();
    let mut version = gather::version(&object);
    let told = object.status.as_ref().and_then(|status| status.observed_generation);
    let news = told != object.metadata.generation;
    let credentials = match entitle(ctx, &object, &desired, &spot, Recount::Sparing) {
        Ok(entitled) => {
            version.grants = entitled.rights.grants;
            ctx.memory.open(&version, news, now);
            entitled.credentials
        }
        Err(lack) => {
            ctx.memory.open(&version, news, now);
            return unentitled(ctx, &term, &object, &desired, &spot, &lack).await;
        }
    };
    let connection = ctx.connect(&credentials, &spot.region).await;
    if slot.lend(timeout(SHORTLY, connection.fleet.first_pass())).await.is_err() {
        return Ok(Action::requeue(SHORTLY));
    }
    let asked = gather::unheard_request(&object);
    let due = ctx.memory.due(&version.uid, now);
    let under_way = [Reason::Associating, Reason::Replacing, Reason::Disassociating];
    let patient = !asked && due.is_some_and(|reason| under_way.contains(&reason));
    let mut subject = Subject {
        patient: patient && ctx.is_busy(&connection.place),
        status: status(&object, ctx, &version.uid),
        asked,
        heard: version.requested_at.filter(|_| asked),
        look_again: match (asked, due) {
            (true, _) => Evidence::ALL,
            (false, Some(reason)) => reason.evidence(),
            (false, None) => Evidence::default(),
        },
        uid: version.uid,
        was_running: false,
        swapping: false,
        authority: Authority::Open,
        doubtful: false,
        declared_by: None,
        key,
        object,
        desired,
        spot,
        credentials,
        connection,
        term,
    };
    pass(ctx, &mut subject, &mut slot).await
}

/// A binding that no grant could cover: nothing is asked of AWS, and nothing of the instance is told.
async fn unentitled(
    ctx: &Arc<Context>,
    term: &Term,
    object: &Arc<InstanceRoleBinding>,
    desired: &Desired,
    spot: &Spot,
    lack: &Lack,
) -> Result<Action, kubernetes::Error> {
    let key = Key::of(&**object);
    let uid = object.uid().unwrap_or_default();
    ctx.leave_queues(&key);
    ctx.memory.looks_away(&uid);
    ctx.breaker.clear(ctx, &key.namespace, &uid);
    let alone = ctx.bindings.count_at(spot) <= 1;
    for (_, connection) in ctx.cloud.connected_to(&spot.region) {
        connection.fleet.await_instance(&spot.instance, &uid, false);
        if alone {
            connection.fleet.untrack(&spot.instance);
        }
    }
    let decision = without_rights(desired, gather::leaving(object, None).as_ref(), lack);
    note(&decision);
    if let Step::Release(how) = decision.step {
        return let_go(ctx, term, object, how, &decision).await;
    }
    tell::unentitled(ctx, term, object, desired, &decision).await?;
    Ok(Action::await_change())
}

/// What the pass came to, for its span.
fn note(decision: &Decision) {
    let span = tracing::Span::current();
    span.record("step", decision.step.as_str()).record("reason", decision.reason.as_str());
}

/// The status as the object has it, with what became of its newest change if the object could not be told.
pub fn status(object: &InstanceRoleBinding, ctx: &Context, uid: &str) -> InstanceRoleBindingStatus {
    amended(object.status.clone().unwrap_or_default(), ctx.memory.outcome(uid))
}

/// A status with what became of its newest change, if that is the one which is remembered.
pub fn amended(
    mut status: InstanceRoleBindingStatus,
    outcome: Option<(Timestamp, memory::Outcome)>,
) -> InstanceRoleBindingStatus {
    let newest =
        status.changes.first().filter(|change| change.request_id.is_none()).map(|change| change.at.0);
    match outcome {
        Some((at, memory::Outcome::Completed(id))) if newest == Some(at) => {
            report::complete(&mut status, id.as_deref())
        }
        Some((at, memory::Outcome::Withdrawn)) if newest == Some(at) => report::withdraw(&mut status),
        Some(_) | None => {}
    }
    status
}

async fn pass(
    ctx: &Arc<Context>,
    subject: &mut Subject,
    slot: &mut Slot,
) -> Result<Action, kubernetes::Error> {
    let mut known = consider(ctx, subject, slot).await?;
    for _ in 0..ROUNDS {
        let Step::Write(write) = known.decision.step.clone() else { break };
        if known.uncounted {
            ctx.leave_queues(&subject.key);
            return Ok(Action::requeue(COUNTING));
        }
        // Without the finalizer a deletion right after the write would leave what it brought.
        finalize(ctx, subject).await?;
        tell::drift(ctx, subject, &known);
        let status = tell::told(subject, &known);
        match act::act(ctx, subject, slot, &write, &known.decision, status).await? {
            Outcome::Called => known = consider(ctx, subject, slot).await?,
            Outcome::Waits(wait) => return queued(ctx, subject, known, wait).await,
            Outcome::Stopping => return Ok(Action::await_change()),
        }
    }
    if matches!(known.decision.step, Step::Look(_)) && is_put_off(ctx, subject, &known) {
        return Ok(Action::await_change());
    }
    ctx.leave_queues(&subject.key);
    note(&known.decision);
    if let Step::Release(how) = known.decision.step {
        return release(ctx, subject, how, &known.decision).await;
    }
    finalize(ctx, subject).await?;
    if !tell::report(ctx, subject, &known).await? {
        return Ok(Action::await_change());
    }
    Ok(next_look(ctx, subject, &known))
}

/// Decides, looking at what the decision asks for, until there is a step to take.
async fn consider(
    ctx: &Arc<Context>,
    subject: &mut Subject,
    slot: &mut Slot,
) -> Result<Known, kubernetes::Error> {
    slot.lend(learn_of_rivals(ctx, subject)).await;
    for _ in 0..ROUNDS {
        let again = std::mem::take(&mut subject.look_again);
        let patient = std::mem::take(&mut subject.patient);
        let began = Timestamp::now();
        let mut evidence = permitted(subject, again);
        let mut pace = if patient { Pace::Leisure } else { Pace::Hurry };
        if evidence == Evidence::default() {
            let mut known = judge(ctx, subject)?;
            match (&known.decision.step, ctx.memory.blind(&subject.uid, Timestamp::now())) {
                (Step::Look(wanted), None) if only_state(*wanted) && is_put_off(ctx, subject, &known) => {
                    return Ok(known);
                }
                (Step::Look(wanted), None) => {
                    (evidence, pace) = (*wanted, pace_of(ctx, subject, &known.observed));
                }
                // A look that failed a moment ago is not made at every pass.
                (Step::Look(_), Some(kind)) => {
                    known.decision = trouble::unseen(&kind).with(known.decision.authority);
                    return Ok(known);
                }
                _ => return Ok(known),
            }
        }
        // The finalizer depends on nothing that is looked at, so it goes side by side.
        let (connection, desired) = (subject.connection.clone(), subject.desired.clone());
        let looking = slot.lend(look(&connection, &desired, evidence, pace));
        let (looked, finalized) = tokio::join!(looking, finalize(ctx, subject));
        finalized?;
        match looked {
            Ok(()) => {
                ctx.memory.looked(&subject.uid);
                if evidence == again {
                    ctx.memory.look_made(&subject.uid, began);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a look failed");
                ctx.memory.looked_in_vain(&subject.uid, error.trouble(), Timestamp::now());
                // A request is answered by a look, not by a failed one.
                subject.heard = None;
            }
        }
    }
    tracing::warn!(?ROUNDS, "what was looked at never sufficed for a decision");
    judge(ctx, subject)
}

/// A look before a change that is not made soon, since many of its kind wait, shares its call with more of them.
fn pace_of(ctx: &Context, subject: &Subject, observed: &Observed) -> Pace {
    let Subject { object, connection, desired, key, .. } = subject;
    let likely = match observed.view.as_ref().map(|view| &view.rows) {
        None => return Pace::Hurry,
        Some(Rows::Bare) => Operation::AssociateIamInstanceProfile,
        Some(_) if desired.declared == Declared::NoProfile => Operation::DisassociateIamInstanceProfile,
        Some(_) => Operation::ReplaceIamInstanceProfileAssociation,
    };
    let crowded = ctx.many_wait(&connection.place, likely, &key.namespace) && !ctx.has_turn(key);
    if crowded && object.metadata.deletion_timestamp.is_none() { Pace::Leisure } else { Pace::Hurry }
}

/// Whether a look is for nothing but the instance's state and tags.
fn only_state(Evidence { associations, instance, profile }: Evidence) -> bool {
    instance && !associations && !profile
}

/// Whether a change waits for its turn for the same reason as before. State and tags are looked at when it comes, with
/// those of others whose turn comes then; not whenever somebody is woken meanwhile.
fn is_put_off(ctx: &Context, subject: &Subject, known: &Known) -> bool {
    let seen = known.observed.view.as_ref().map(|view| &view.rows);
    seen.is_some_and(|seen| ctx.memory.is_put_off(&subject.uid, seen)) && ctx.waits_for_turn(&subject.key)
}

/// What may be looked at: EC2 is asked nothing before it is known that a grant covers the profile that is meant.
fn permitted(subject: &Subject, evidence: Evidence) -> Evidence {
    let Subject { desired, connection, authority, .. } = subject;
    let resolution = connection.catalogue.resolve(&desired.declared);
    let unclear =
        desired.needs_iam() && matches!(resolution, Resolution::NotAsked | Resolution::Unavailable(_));
    if unclear || matches!(authority, Authority::Refused { by_tag: false }) {
        Evidence { profile: evidence.profile, ..Evidence::default() }
    } else {
        evidence
    }
}

/// Whether a rival's claim is good decides who writes, so what it hangs on is looked at: for the first of those of whom it
/// cannot be told, and not for long. The others see to themselves, and there may be many.
async fn learn_of_rivals(ctx: &Arc<Context>, subject: &Subject) {
    let now = Timestamp::now();
    let fleet = &subject.connection.fleet;
    let seen = fleet.observed(&subject.spot.instance, now, Timestamp::MIN).seen.is_some();
    let blind = |uid: &str| ctx.memory.blind(uid, now).is_some();
    let doubtful = gather::rivals(ctx, &subject.object, &subject.spot, &subject.connection).into_iter();
    // A node's tags show only by a look, and keep a rival from what its grant covers otherwise.
    let mut doubtful = doubtful.filter(|rival| rival.authority == Authority::Open || !seen);
    let Some(rival) = doubtful.find(|rival| !blind(&rival.object.uid().unwrap_or_default())) else { return };
    let uid = rival.object.uid().unwrap_or_default();
    let asks_iam = rival.resolution == Resolution::NotAsked && rival.desired.needs_iam();
    let look = async {
        let theirs = ctx.connect(&rival.entitled.credentials, &subject.spot.region).await;
        learn(&rival, &theirs, &subject.connection).await
    };
    // A look that failed by credentials of this binding's own is no failure of the rival's.
    let concerns_it = asks_iam || rival.entitled.credentials == subject.credentials;
    if let Ok(Err(error)) = timeout(SHORTLY, look).await {
        tracing::debug!(%error, rival = %Key::of(&*rival.object), "whether a grant covers a rival cannot be told");
        if concerns_it {
            ctx.memory.looked_in_vain(&uid, error.trouble(), now);
        }
    }
}

/// Looks at what a rival's claim hangs on: by `theirs` at its profile, else by `ours` at the instance.
pub async fn learn(rival: &Rival, theirs: &Connection, ours: &Connection) -> Result<(), Error> {
    match rival.resolution {
        Resolution::NotAsked if rival.desired.needs_iam() => {
            theirs.catalogue.look(&rival.desired.declared).await
        }
        _ => {
            ours.fleet.track(&rival.desired.instance);
            ours.fleet.look_at_instance(&rival.desired.instance, Pace::Hurry).await
        }
    }
}

/// Decides by what is known now. Grants, namespaces and other bindings are read anew each time.
pub fn judge(ctx: &Arc<Context>, subject: &mut Subject) -> Result<Known, kubernetes::Error> {
    let status = subject.status.clone();
    judge_by(ctx, subject, &status, Recount::Sparing)
}

/// The same, with a status that is not the one to be told, and counting as exactly as is asked.
pub fn judge_by(
    ctx: &Arc<Context>,
    subject: &mut Subject,
    status: &InstanceRoleBindingStatus,
    rooms: Recount,
) -> Result<Known, kubernetes::Error> {
    let now = Timestamp::now();
    let Subject { object, connection, desired, .. } = &*subject;
    let fleet = &connection.fleet;
    let rights = match entitle(ctx, object, desired, &subject.spot, rooms) {
        Ok(entitled) if entitled.credentials == subject.credentials => entitled.rights,
        // Another role is to act: the pass begins anew.
        Ok(_) => return Err(kubernetes::Error::Conflict),
        Err(lack) => {
            let decision = without_rights(desired, gather::leaving(object, None).as_ref(), &lack);
            subject.authority = decision.authority.clone();
            ctx.memory.looks_away(&subject.uid);
            ctx.breaker.clear(ctx, &subject.key.namespace, &subject.uid);
            return Ok(Known {
                resolution: Resolution::NotAsked,
                observed: Observed::default(),
                decision,
                contention: None,
                uncounted: false,
            });
        }
    };
    let question =
        Question { object, status, desired, spot: &subject.spot, connection, began: subject.term.began };
    let (mut facts, rivals) = gather::facts(ctx, question, rights, now);
    let mut decision = facts.decide(&connection.place, now);
    let uncounted = restrain(ctx, subject, &mut facts, &decision, now);
    if facts.restraint != Restraint::default() {
        decision = facts.decide(&connection.place, now);
    }
    if let Some(error) = fleet.failing(ctx.settings.patience(), now)
        && matches!(decision.step, Step::Converged | Step::Look(_))
    {
        decision = trouble::unseen(&error.trouble()).with(decision.authority);
    }
    let Facts { observed, resolution, history, restraint, .. } = facts;
    subject.doubtful = rivals.iter().any(|rival| rival.authority == Authority::Open);
    subject.swapping = history.swapped_out().is_some() || decision.begins_swap();
    subject.was_running =
        matches!(observed.instance, Some(Instance::Present { state: InstanceState::Running, .. }));
    subject.authority = decision.authority.clone();
    let contention = restraint.outsiders.contention(now);
    Ok(Known { resolution, observed, decision, contention, uncounted })
}

/// Counts what others did, and what is to be repaired because of it; whether that cannot be counted yet.
fn restrain(
    ctx: &Arc<Context>,
    subject: &Subject,
    facts: &mut Facts,
    decision: &Decision,
    now: Timestamp,
) -> bool {
    let Subject { uid, key, object, .. } = subject;
    let Facts { desired, history, observed, restraint, .. } = facts;
    let elsewhere =
        decision.reason == Reason::Conflict || matches!(decision.authority, Authority::Refused { .. });
    if elsewhere || !desired.writes() {
        ctx.memory.looks_away(uid);
    } else if let Some(sighting) = contention::sighting(decision, desired, history, observed, now)
        && ctx.memory.sighted(uid, &sighting, now)
    {
        let before = restraint.outsiders.contention(now);
        restraint.outsiders = ctx.memory.outsiders(uid);
        if let Some(contention) = restraint.outsiders.contention(now) {
            tell::contended(ctx, subject, &contention, before.is_none());
        }
    }
    let in_swap = history.swapped_out().is_some();
    if desired.writes() && facts.leaving.is_none() && circuit::is_repair(decision, in_swap) {
        match ctx.breaker.weigh(ctx, object, subject.term.began) {
            Word::Go => {}
            Word::Wait => return true,
            Word::Held(circuit) => restraint.circuit = Some(circuit),
        }
    } else if !matches!(decision.step, Step::Look(_)) {
        ctx.breaker.clear(ctx, &key.namespace, uid);
    }
    false
}

/// Makes the looks that are asked for, side by side.
pub async fn look(
    connection: &Connection,
    desired: &Desired,
    evidence: Evidence,
    pace: Pace,
) -> Result<(), Error> {
    let Connection { fleet, catalogue, .. } = connection;
    let associations = async {
        if evidence.associations { fleet.look_at_associations(&desired.instance, pace).await } else { Ok(()) }
    };
    let instance = async {
        if evidence.instance { fleet.look_at_instance(&desired.instance, pace).await } else { Ok(()) }
    };
    let profile = async { if evidence.profile { catalogue.look(&desired.declared).await } else { Ok(()) } };
    let (associations, instance, profile) = tokio::join!(associations, instance, profile);
    associations.and(instance).and(profile)
}

/// The finalizer is there only where deletion has work to do.
async fn finalize(ctx: &Context, subject: &mut Subject) -> Result<(), kubernetes::Error> {
    let Subject { object, desired, term, .. } = &*subject;
    if object.metadata.deletion_timestamp.is_some() || ctx.settings.dry_run {
        return Ok(());
    }
    let (has, granted) = (gather::has_finalizer(object), subject.authority.is_granted());
    let changed = match finalizer_due(has, desired, granted, subject.swapping) {
        Some(true) => ctx.kubernetes.add_finalizer(&term.fence, object).await?,
        Some(false) => ctx.kubernetes.remove_finalizer(&term.fence, object).await?,
        None => return Ok(()),
    };
    if changed.metadata.generation != object.metadata.generation || changed.uid() != object.uid() {
        return Err(kubernetes::Error::Conflict);
    }
    subject.object = Arc::new(changed);
    Ok(())
}

/// Whether our finalizer is to be put on a living object, or taken off.
pub fn finalizer_due(has: bool, desired: &Desired, granted: bool, swapping: bool) -> Option<bool> {
    // A swap is ended even if the binding is deleted in the middle of it.
    let idle = (desired.mode == Mode::Observe || desired.deletion == DeletionPolicy::Retain) && !swapping;
    // Who may do nothing to the instance leaves nothing to undo.
    let has_work = (desired.deletion_has_work() || swapping) && granted;
    match (has, has_work, idle) {
        (false, true, _) => Some(true),
        (true, _, true) => Some(false),
        _ => None,
    }
}

/// The change has to wait for its turn, which wakes it. It is told if that takes a while, or if there is news that
/// status lacks, such as a change that was refused.
async fn queued(
    ctx: &Arc<Context>,
    subject: &mut Subject,
    mut known: Known,
    wait: Duration,
) -> Result<Action, kubernetes::Error> {
    if let Some(view) = &known.observed.view {
        ctx.memory.put_off(&subject.uid, &view.rows);
    }
    let news = subject.object.status.as_ref().is_none_or(|status| status.changes != subject.status.changes);
    if wait < WORTH_TELLING && !news {
        return Ok(Action::await_change());
    }
    let Some((operation, _)) = known.decision.plan.first().copied() else {
        return Ok(Action::await_change());
    };
    known.decision.step = Step::Wait;
    let what = std::mem::take(&mut known.decision.message);
    (known.decision.reason, known.decision.message) =
        if ctx.is_throttled(&subject.connection.place, operation) {
            (
                Reason::Throttled,
                format!("{what}: EC2 throttles this account and Region, so it waits for its turn"),
            )
        } else {
            (
                Reason::BudgetExhausted,
                format!("{what}: it waits for its turn within EC2's limits for this account and Region"),
            )
        };
    tell::report(ctx, subject, &known).await?;
    Ok(Action::await_change())
}

/// Deletion has nothing left to do.
async fn release(
    ctx: &Arc<Context>,
    subject: &mut Subject,
    how: Farewell,
    decision: &Decision,
) -> Result<Action, kubernetes::Error> {
    let action = let_go(ctx, &subject.term, &subject.object, how, decision).await?;
    subject.connection.fleet.await_instance(&subject.desired.instance, &subject.uid, false);
    Ok(action)
}

/// Takes our finalizer off, and says what became of the instance.
async fn let_go(
    ctx: &Arc<Context>,
    term: &Term,
    object: &InstanceRoleBinding,
    how: Farewell,
    decision: &Decision,
) -> Result<Action, kubernetes::Error> {
    if !gather::has_finalizer(object) || ctx.settings.dry_run {
        return Ok(Action::await_change());
    }
    ctx.kubernetes.remove_finalizer(&term.fence, object).await?;
    tracing::info!(binding = %Key::of(object), ?how, "released");
    ctx.metrics.released(how.as_str());
    let reason = match how {
        Farewell::Done => None,
        Farewell::LeftInPlace | Farewell::NotRestored | Farewell::Forced => Some((true, how.as_str())),
        Farewell::HandedOver => Some((false, how.as_str())),
    };
    if let Some((warning, reason)) = reason {
        let note = decision.message.clone();
        ctx.events.tell(object, Tale { warning, reason, action: "Release", note, profile: None });
    }
    ctx.memory.forget(&object.uid().unwrap_or_default());
    Ok(Action::await_change())
}

/// When to look again: by the reason, by what failed, by when the last write has settled.
fn next_look(ctx: &Context, subject: &Subject, known: &Known) -> Action {
    let now = Timestamp::now();
    let Subject { connection, desired, uid, .. } = subject;
    let Known { decision, observed, .. } = known;
    let done = decision.step.phase() == Phase::Done;
    if subject.asked && subject.heard.is_none() {
        return Action::requeue(ctx.memory.after_error(uid));
    }
    ctx.memory.went_well(uid);
    if done {
        ctx.memory.as_declared(uid);
        ctx.memory.at_rest(uid);
    }
    // An association may stay `associating` as long as its instance is stopped: the passes tell when that changes.
    let stopped = matches!(observed.instance, Some(Instance::Present { state: InstanceState::Stopped, .. }));
    let parked = decision.reason == Reason::Associating && stopped && ctx.memory.trouble(uid).is_none();
    let by_tag = decision.authority.by_tag();
    let hangs_on_instance =
        decision.reason.hangs_on_instance() || decision.reason.cadence() == Cadence::EachPass;
    let awaited = by_tag || !done && (parked || hangs_on_instance);
    connection.fleet.await_instance(&desired.instance, uid, awaited);
    if matches!(decision.authority, Authority::Refused { by_tag: false })
        && ctx.bindings.count_at(&subject.spot) <= 1
    {
        connection.fleet.untrack(&desired.instance);
    }
    if parked && !subject.doubtful {
        return Action::await_change();
    }
    let retry = ctx.memory.trouble(uid).map(|trouble| trouble.retry_at);
    let settled =
        connection.fleet.settles(&desired.instance).filter(|_| decision.reason != Reason::Associated);
    let doubt = subject.doubtful.then_some(now + IN_DOUBT);
    let contended = known.contention.as_ref().map(|contention| contention.ends);
    let repair = known.contention.as_ref().and_then(|contention| contention.due);
    let at_latest =
        [retry, settled, doubt, contended, repair].into_iter().flatten().filter(|at| *at > now).min();
    let at_latest = at_latest.map(|at| at + SignedDuration::from_millis(100));
    let busy = ctx.is_busy(&connection.place);
    let grid = if busy { COARSE } else { FINE };
    // Among many, what EC2 has confirmed is looked at once: when it has settled.
    let confirmed =
        matches!(decision.reason, Reason::Associating | Reason::Replacing | Reason::Disassociating)
            && decision.step == Step::Wait
            && retry.is_none();
    if let Some(at) = connection.fleet.settles(&desired.instance)
        && (busy && confirmed && at > now)
    {
        return Action::requeue(ctx.memory.look_once(uid, decision.reason, at, grid, now));
    }
    match ctx.memory.next_look(uid, decision.reason, at_latest, grid, now) {
        Some(wait) => Action::requeue(wait),
        None => Action::await_change(),
    }
}

/// How soon to try again after a pass that could not be finished.
pub fn after(error: &kubernetes::Error, ctx: &Context, uid: &str) -> Action {
    match error {
        // Whoever leads by then looks; usually that is another process.
        kubernetes::Error::Conflict | kubernetes::Error::NotLeading(_) => Action::requeue(OVERTAKEN),
        kubernetes::Error::Timeout | kubernetes::Error::Refused(_) => {
            Action::requeue(ctx.memory.after_error(uid))
        }
    }
}
