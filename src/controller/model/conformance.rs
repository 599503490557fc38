//! The model's EC2 is the sandbox's: the same calls in the same order have the same answers and the same rows.

use std::collections::HashMap;

use ec2_sandbox::error::ApiError;
use ec2_sandbox::settings::Settings;
use ec2_sandbox::world::{
    AssociationState, AssociationView, DescribeAssociations, DescribeInstances, InstanceState, ProfileSpec,
    Scope, SeedInstances, SeedProfile, World,
};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::json;

use super::ec2::{Call, Ec2, Power, Profile, Refusal, Row, RowState};

const ID: &str = "i-0123456789abcdef0";
const REGION: &str = "eu-west-1";

/// One step of a story.
#[derive(Debug, Clone, Copy)]
enum Step {
    Associate(Profile),
    /// Of the row at this place among all that ever were.
    Replace(usize, Profile),
    Disassociate(usize),
    DryRun(Profile),
    Start,
    Stop,
    Terminate,
    /// Everything gets where it is going.
    RowsMoveOn,
    /// The instance does, and no row.
    PowersOn,
    PassRoleDenied(bool),
    ProfileUnknown(bool),
    RowSticks,
    OutsiderAttaches,
    OutsiderDetaches,
}

/// Both worlds, and which of the sandbox's associations is which of the model's.
struct Both {
    model: Ec2,
    world: World,
    scope: Scope,
    now: u64,
    ids: Vec<String>,
}

/// Instances take a thousandth of what rows take, so that they get there before them.
fn settings() -> Settings {
    Settings {
        associating_ms: 1_000,
        disassociating_ms: 1_000,
        pending_ms: 1,
        stopping_ms: 1,
        shutting_down_ms: 1,
        instances_lag_ms: 0,
        replace_shows_old_ms: 0,
        shuffle_rows: false,
        ..Settings::default()
    }
}

fn seed<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn name(profile: Profile) -> String {
    format!("{profile:?}")
}

fn refusal(error: &ApiError) -> Refusal {
    match error.code.as_str() {
        "IncorrectState" | "InvalidAssociationID.NotFound" => Refusal::Overtaken,
        "IncorrectInstanceState" => Refusal::InstanceState,
        "InvalidParameterValue" => Refusal::ProfileUnknown,
        "UnauthorizedOperation" => Refusal::Denied,
        other => panic!("the model knows no {other}"),
    }
}

fn state(state: AssociationState) -> RowState {
    match state {
        AssociationState::Associating => RowState::Associating,
        AssociationState::Associated => RowState::Associated,
        AssociationState::Disassociating => RowState::Disassociating,
        AssociationState::Disassociated => RowState::Disassociated,
    }
}

impl Both {
    fn new(power: Power, carries: Option<Profile>) -> Self {
        let mut world = World::new(settings());
        for profile in [Profile::App, Profile::Old, Profile::Other] {
            world.seed_profile(0, &seed::<SeedProfile>(json!({"name": name(profile)}))).unwrap();
        }
        let word = if power == Power::Stopped { "stopped" } else { "running" };
        let instance = json!({"region": REGION, "ids": [ID], "state": word, "profile": carries.map(name)});
        let seeded = world.seed_instances(0, &seed::<SeedInstances>(instance)).unwrap();
        let ids = seeded.associations.into_iter().flatten().map(|id| id.to_string()).collect();
        let scope = world.identify(0, "ec2", REGION, "AKIA123456789012ME", None).unwrap();
        let mut model = Ec2::new(power, carries);
        model.next = u8::from(carries.is_some());
        Self { model, world, scope, now: 1_000_000, ids }
    }

    fn step(&mut self, step: Step) {
        let id = |both: &Self, at: usize| both.ids.get(at % both.ids.len().max(1)).cloned();
        let spec = |profile| ProfileSpec::of(&name(profile));
        match step {
            Step::Associate(profile) => {
                let theirs = self.world.associate(self.now, &self.scope, ID, &spec(profile), false);
                self.compare(Call::Associate(profile), theirs);
            }
            Step::Replace(at, profile) => {
                let Some(id) = id(self, at) else { return };
                let theirs = self.world.replace(self.now, &self.scope, &id, &spec(profile), false);
                let number = self.number(&id);
                self.compare(Call::Replace(number, profile), theirs);
            }
            Step::Disassociate(at) => {
                let Some(id) = id(self, at) else { return };
                let theirs = self.world.disassociate(self.now, &self.scope, &id, false);
                let number = self.number(&id);
                self.compare(Call::Disassociate(number), theirs);
            }
            Step::DryRun(profile) => {
                let theirs =
                    self.world.associate(self.now, &self.scope, ID, &spec(profile), true).unwrap_err();
                let theirs = (theirs.code != "DryRunOperation").then(|| refusal(&theirs));
                // The sandbox forgets a terminated instance only after an hour, so it answers for it as well.
                assert_eq!(self.model.refuses(profile), theirs);
            }
            Step::Start if self.model.power == Power::Stopped => {
                self.world.start_instances(self.now, &self.scope, &[ID.to_owned()], false).unwrap();
                self.model.power = Power::Pending;
            }
            Step::Stop if self.model.power == Power::Running => {
                self.world.stop_instances(self.now, &self.scope, &[ID.to_owned()], false).unwrap();
                self.model.power = Power::Stopping;
            }
            Step::Start | Step::Stop => {}
            Step::Terminate => {
                self.world.terminate_instances(self.now, &self.scope, &[ID.to_owned()], false).unwrap();
                self.now += 1;
                self.model.terminate();
            }
            Step::PowersOn => self.powers_on(),
            Step::RowsMoveOn => {
                self.powers_on();
                self.now += 1_000;
                self.model.moves_on();
            }
            Step::PassRoleDenied(denied) => {
                self.model.denied = denied;
                let me = self.scope.caller.identity.clone();
                self.world.detach_policies(Some(&me));
                let deny = json!({"Effect": "Deny", "Action": "iam:PassRole", "Resource": "arn:aws:iam::*:role/App"});
                let allow = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
                if denied {
                    let policy = json!({"Version": "2012-10-17", "Statement": [allow, deny]});
                    self.world.attach_policy(&me, &policy).unwrap();
                }
            }
            Step::ProfileUnknown(unknown) => self.unknown(unknown),
            Step::RowSticks => self.sticks(),
            Step::OutsiderAttaches => {
                // By the same calls, of which the first half of a swap goes before.
                match self.model.live().copied() {
                    Some(row) if row.profile == Profile::Other => {}
                    Some(row) if self.model.power == Power::Running => {
                        self.step(Step::Replace(self.place(row.id), Profile::Other));
                    }
                    Some(row) => {
                        self.step(Step::Disassociate(self.place(row.id)));
                        self.step(Step::Associate(Profile::Other));
                    }
                    None => self.step(Step::Associate(Profile::Other)),
                }
            }
            Step::OutsiderDetaches => {
                if let Some(row) = self.model.live().copied() {
                    self.step(Step::Disassociate(self.place(row.id)));
                }
            }
        }
        self.agree(step);
    }

    fn powers_on(&mut self) {
        self.now += 1;
        self.model.powers_on();
    }

    /// In IAM it is gone, or there again: EC2 knows what IAM has.
    fn unknown(&mut self, unknown: bool) {
        // The App that comes back is another, by its id; the model tells profiles by their names alone.
        if !unknown && self.model.rows.iter().any(|row| row.profile == Profile::App) {
            return;
        }
        if std::mem::replace(&mut self.model.unknown, unknown) == unknown {
            return;
        }
        if unknown {
            self.world.remove_role(&self.scope, "App", "App").unwrap();
            self.world.delete_profile(&self.scope, "App").unwrap();
        } else {
            self.world.seed_profile(0, &seed::<SeedProfile>(json!({"name": "App"}))).unwrap();
        }
    }

    fn sticks(&mut self) {
        let running = self.model.power == Power::Running;
        let Some(at) =
            self.model.rows.iter().position(|row| running && row.state != RowState::Associated && !row.stuck)
        else {
            return;
        };
        let row = &mut self.model.rows[at];
        row.stuck = true;
        let word = if row.state == RowState::Associating { "associating" } else { "disassociating" };
        let id = self.ids[usize::from(row.id)].clone();
        self.world.stick(self.now, &id, word).unwrap();
    }

    fn place(&self, number: u8) -> usize {
        usize::from(number)
    }

    fn number(&self, id: &str) -> u8 {
        u8::try_from(self.ids.iter().position(|other| other == id).unwrap()).unwrap()
    }

    fn compare(&mut self, call: Call, theirs: Result<AssociationView, ApiError>) {
        let ours = self.model.call(call);
        let theirs = theirs.map(|view| self.row(&view)).map_err(|error| refusal(&error));
        let ours = ours.map(|row| Row { stuck: false, ..row });
        assert_eq!(ours, theirs, "{call:?}");
    }

    fn row(&mut self, view: &AssociationView) -> Row {
        let id = view.id.to_string();
        if !self.ids.contains(&id) {
            self.ids.push(id.clone());
        }
        let profiles: HashMap<String, Profile> =
            [Profile::App, Profile::Old, Profile::Other].map(|p| (name(p), p)).into();
        let profile = profiles[view.profile.arn.rsplit('/').next().unwrap()];
        Row { id: self.number(&id), profile, state: state(view.state), stuck: false }
    }

    /// Both show the same rows and the same instance.
    fn agree(&mut self, after: Step) {
        let shown = self
            .world
            .describe_associations(self.now, &self.scope, &DescribeAssociations::default())
            .unwrap();
        let mut theirs: Vec<Row> = shown.rows.iter().map(|view| self.row(view)).collect();
        let mut ours: Vec<Row> = self.model.rows.iter().map(|row| Row { stuck: false, ..*row }).collect();
        theirs.sort_by_key(|row| row.id);
        ours.sort_by_key(|row| row.id);
        assert_eq!(ours, theirs, "after {after:?}");
        let request = DescribeInstances { ids: vec![ID.to_owned()], ..DescribeInstances::default() };
        let instances = self.world.describe_instances(self.now, &self.scope, &request).unwrap().instances;
        let power = match instances[0].state {
            InstanceState::Pending => Power::Pending,
            InstanceState::Running => Power::Running,
            InstanceState::Stopping => Power::Stopping,
            InstanceState::Stopped => Power::Stopped,
            InstanceState::ShuttingDown | InstanceState::Terminated => Power::Terminated,
        };
        assert_eq!(self.model.power, power, "after {after:?}");
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let profile = || select(vec![Profile::App, Profile::App, Profile::Old, Profile::Other]);
    let place = || 0_usize..9;
    prop_oneof![
        4 => profile().prop_map(Step::Associate),
        6 => (place(), profile()).prop_map(|(at, profile)| Step::Replace(at, profile)),
        4 => place().prop_map(Step::Disassociate),
        1 => profile().prop_map(Step::DryRun),
        3 => Just(Step::RowsMoveOn),
        2 => Just(Step::PowersOn),
        2 => Just(Step::Start),
        2 => Just(Step::Stop),
        1 => any::<bool>().prop_map(Step::PassRoleDenied),
        1 => any::<bool>().prop_map(Step::ProfileUnknown),
        1 => Just(Step::RowSticks),
        1 => Just(Step::OutsiderAttaches),
        1 => Just(Step::OutsiderDetaches),
    ]
}

/// `SEED` has the same stories told again.
#[test]
fn the_model_and_the_sandbox_answer_alike() {
    let seed: u64 = match std::env::var("SEED") {
        Ok(text) => text.parse().expect("SEED is a number"),
        Err(_) => rand_seed(),
    };
    println!("conformance of the model's EC2: SEED={seed}");
    let usual = ProptestConfig::default();
    let config = ProptestConfig { cases: 8 * usual.cases, failure_persistence: None, ..usual };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let world = (
        select(vec![Power::Running, Power::Stopped]),
        select(vec![None, Some(Profile::Old), Some(Profile::App)]),
    );
    let story = (world, proptest::collection::vec(any_step(), 1..40), any::<bool>());
    let told = runner.run(&story, |((power, carries), steps, ends)| {
        let mut both = Both::new(power, carries);
        for step in steps {
            both.step(step);
        }
        if ends {
            both.step(Step::Terminate);
            both.step(Step::Associate(Profile::Old));
        }
        Ok(())
    });
    if let Err(error) = told {
        panic!("SEED={seed}\n{error}");
    }
}

fn rand_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::from(now.subsec_nanos())
}
