//! Every part of a grant × every kind of write × given or lacking: what EC2's journal must then have.
//!
//! All cells stand side by side in one world, each with namespaces, instance and grants of its own, and go through four
//! stages together: so the whole table costs about as long as its slowest cell. Each cell is judged by the journal,
//! after two further passes over everything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use world::{Call, Grants, OTHER_REGION, REGION, Scenario, World, WorldOptions, eventually_ok};

use crate::grants::{Rights, arn, says_more_than_refused, with};
use crate::stage::{
    ASSOCIATE, DISASSOCIATE, FORCE_RELEASE, REPLACE, Story, a_second_later, condition, is_held, is_observed,
    reason, truth,
};

/// What a grant says, part by part; the cell is about this one, all others hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    NamespaceByName,
    NamespaceBySelector,
    ProfileByArn,
    ProfileByName,
    ProfileByPath,
    Region,
    Tag,
    Id,
    AllowNone,
    MaxBindings,
    Credentials,
}

const PARTS: [Part; 11] = [
    Part::NamespaceByName,
    Part::NamespaceBySelector,
    Part::ProfileByArn,
    Part::ProfileByName,
    Part::ProfileByPath,
    Part::Region,
    Part::Tag,
    Part::Id,
    Part::AllowNone,
    Part::MaxBindings,
    Part::Credentials,
];

/// A kind of write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A profile for an instance that has none.
    Associate,
    /// Another profile for a running instance.
    Replace,
    /// Another profile for a stopped instance.
    Swap,
    /// `none`.
    DetachByNone,
    /// The policy Detach of a binding that goes.
    DetachByDeletion,
    /// The policy Restore of a binding that goes, where another profile had been.
    RestoreProfile,
    /// The same where there had been none.
    RestoreNone,
    /// The next binding of an instance whose older one goes.
    HandOver,
}

struct Row {
    kind: Kind,
    /// The instance before: its state and profile.
    before: (&'static str, Option<&'static str>),
    /// The writes where all is granted.
    granted: &'static [&'static str],
    /// The writes where the part is lacking: what was done while it was not, and what others may do.
    lacking: &'static [&'static str],
    /// The parts that this write does not need, and why.
    needless: &'static [(Part, &'static str)],
}

const PROFILE_STAYS_ON: (Part, &str) = (Part::AllowNone, "the instance is not left without a profile");

const TABLE: [Row; 8] = [
    Row {
        kind: Kind::Associate,
        before: ("running", None),
        granted: &[ASSOCIATE],
        lacking: &[],
        needless: &[PROFILE_STAYS_ON],
    },
    Row {
        kind: Kind::Replace,
        before: ("running", Some("team/old")),
        granted: &[REPLACE],
        lacking: &[],
        needless: &[PROFILE_STAYS_ON],
    },
    Row {
        kind: Kind::Swap,
        before: ("stopped", Some("team/old")),
        granted: &[DISASSOCIATE, ASSOCIATE],
        lacking: &[],
        needless: &[(Part::AllowNone, "the detach belongs to the right to attach")],
    },
    Row {
        kind: Kind::DetachByNone,
        before: ("running", Some("team/old")),
        granted: &[DISASSOCIATE],
        lacking: &[],
        needless: &[
            (
                Part::ProfileByArn,
                "no profile is asked for, and to take off any is part of covering an instance",
            ),
            (Part::ProfileByName, "as for its ARN"),
            (Part::ProfileByPath, "as for its ARN"),
        ],
    },
    Row {
        kind: Kind::DetachByDeletion,
        before: ("running", Some("team/app")),
        granted: &[DISASSOCIATE],
        lacking: &[],
        needless: &[],
    },
    Row {
        kind: Kind::RestoreProfile,
        before: ("running", Some("team/old")),
        granted: &[REPLACE, REPLACE],
        lacking: &[REPLACE],
        needless: &[PROFILE_STAYS_ON],
    },
    Row {
        kind: Kind::RestoreNone,
        before: ("running", None),
        granted: &[ASSOCIATE, DISASSOCIATE],
        lacking: &[ASSOCIATE],
        needless: &[],
    },
    Row {
        kind: Kind::HandOver,
        before: ("running", Some("team/old")),
        granted: &[REPLACE],
        // The one that goes has rights of its own, and nobody to leave the instance to.
        lacking: &[DISASSOCIATE],
        needless: &[PROFILE_STAYS_ON],
    },
];

impl Kind {
    /// Whether the write comes with the end of the cell's own binding, which had all rights before.
    fn is_farewell(self) -> bool {
        matches!(self, Self::DetachByDeletion | Self::RestoreProfile | Self::RestoreNone)
    }

    fn policy(self) -> &'static str {
        if matches!(self, Self::RestoreProfile | Self::RestoreNone) { "Restore" } else { "Detach" }
    }
}

/// One field of the table.
struct Cell<'w> {
    part: Part,
    row: &'static Row,
    /// Whether the part is given when it counts.
    given: bool,
    home: Scenario<'w>,
    /// Where the older binding is that hands over.
    neighbour: Option<Scenario<'w>>,
    instance: String,
}

impl<'w> Cell<'w> {
    fn new(world: &'w World, part: Part, row: &'static Row, given: bool) -> Result<Self> {
        let (state, profile) = row.before;
        let instance =
            json!({"count": 1, "state": state, "profile": profile.map(arn), "tags": {"team": "yes"}});
        let neighbour = match row.kind {
            Kind::HandOver => Some(world.stranger("neighbour")?),
            _ => None,
        };
        Ok(Self {
            part,
            row,
            given,
            home: world.stranger("cell")?,
            neighbour,
            instance: world.sandbox().add_instances(&instance)?.remove(0),
        })
    }

    fn name(&self) -> String {
        let lacks = if self.given { "given" } else { "lacking" };
        format!("{:?} {lacks} × {:?}", self.part, self.row.kind)
    }

    fn needless(&self) -> Option<&'static str> {
        self.row.needless.iter().find(|(part, _)| *part == self.part).map(|(_, why)| *why)
    }

    /// Whether the write must be refused in the end.
    fn is_refused(&self) -> bool {
        !self.given && self.needless().is_none()
    }

    /// Whether the binding itself loses its right to be there. `allowNone` is asked for what a deletion does only.
    fn loses_standing(&self) -> bool {
        self.is_refused() && !(self.part == Part::AllowNone && self.row.kind.is_farewell())
    }

    /// The reason of a refusal.
    fn reason(&self) -> &'static str {
        if self.part == Part::Credentials { "Conflict" } else { "NotAuthorized" }
    }

    /// Gives the part, or takes it away; everything else is always granted.
    fn give(&self, given: bool) -> Result<()> {
        let s = &self.home;
        let mut spec = json!({
            "namespaces": {"names": [s.namespace()]},
            "instanceProfiles": [arn("team/app"), arn("team/old")],
            "instances": {"regions": [REGION]},
        });
        let choose = |yes: Value, no: Value| if given { yes } else { no };
        match self.part {
            Part::NamespaceByName => {
                let longer = format!("{}-x", s.namespace());
                spec["namespaces"]["names"] = choose(json!([s.namespace()]), json!([longer]));
            }
            Part::NamespaceBySelector => {
                let labels = json!({"cell": s.namespace()});
                spec["namespaces"] = json!({"selector": {"matchLabels": labels}});
                s.label_namespace("cell", given.then_some(s.namespace()))?;
            }
            Part::ProfileByArn => {
                let no = json!([arn("team/ap"), arn("team/apps"), arn("app"), arn("old")]);
                spec["instanceProfiles"] = choose(spec["instanceProfiles"].clone(), no);
            }
            Part::ProfileByName => {
                spec["instanceProfiles"] = choose(json!(["app", "old"]), json!(["apps", "ol"]));
            }
            Part::ProfileByPath => {
                let no = json!([arn("teamster/*"), arn("team/app/*")]);
                spec["instanceProfiles"] = choose(json!([arn("team/*")]), no);
            }
            Part::Region => {
                spec["instances"] = json!({"regions": [choose(json!(REGION), json!(OTHER_REGION))]});
            }
            Part::Tag => {
                spec["instances"] = json!({"tags": {"team": "yes"}});
                s.sandbox().retag(&self.instance, &json!({"team": choose(json!("yes"), json!("Yes"))}))?;
            }
            Part::Id => {
                let id = choose(json!(self.instance), json!("i-0123456789abcdef0"));
                spec["instances"] = json!({"ids": [id]});
            }
            Part::AllowNone => spec["allowNone"] = json!(given),
            Part::MaxBindings => spec["maxBindings"] = choose(json!(2), json!(1)),
            Part::Credentials => {
                // Two that agree, or two that do not.
                let aws = json!({"assumeRoleArn": "arn:aws:iam::123456789012:role/other"});
                let other = if given { spec.clone() } else { with(spec.clone(), "aws", aws) };
                s.grant("second", &other)?;
            }
        }
        s.grant("first", &spec).map(drop)
    }

    /// Those who were there before.
    fn predecessors(&self) -> Result<()> {
        if self.part == Part::MaxBindings {
            let taken = self.home.sandbox().instance("running", Some(&arn("team/app")))?;
            self.home.bind("elder", &taken, &json!({"arn": arn("team/app")}))?;
        }
        if let Some(neighbour) = &self.neighbour {
            let all = json!({"instanceProfiles": [arn("team/*")], "instances": {"regions": [REGION]}});
            neighbour.grant("own", &all)?;
            neighbour.bind("elder", &self.instance, &json!({"arn": arn("team/old")}))?;
        }
        // Whoever acts at once must find its rights as they are to be; whoever goes had them before.
        self.give(self.given || self.row.kind.is_farewell())
    }

    fn bind(&self) -> Result<()> {
        let profile = match (self.row.kind, self.part) {
            (Kind::DetachByNone, _) => json!({"none": {}}),
            (_, Part::ProfileByArn | Part::Tag) => json!({"arn": arn("team/app")}),
            (_, Part::ProfileByPath | Part::Id) => json!({"roleName": "app"}),
            _ => json!({"name": "app"}),
        };
        let policy = self.row.kind.policy();
        let spec = json!({"instanceId": self.instance, "instanceProfile": profile, "deletionPolicy": policy});
        self.home.apply("it", &spec).map(drop)
    }

    /// Waits until all is as it can be before somebody goes.
    fn settles(&self) -> Result<()> {
        if let Some(neighbour) = &self.neighbour {
            neighbour.is_carried_out("elder")?;
        }
        if !self.row.kind.is_farewell() && self.is_refused() {
            return self.is_told_no_more();
        }
        match self.row.kind {
            Kind::HandOver => self.home.reaches("it", "Conflict").map(drop),
            // EC2 finishes that when the instance is started.
            Kind::Swap => self
                .home
                .patiently("it", "is exchanged", |found| {
                    found["status"]["observed"]["profileArn"] == arn("team/app")
                        && reason(found) == "Associating"
                })
                .map(drop),
            _ => self.home.is_carried_out("it").map(drop),
        }
    }

    fn is_told_no_more(&self) -> Result<()> {
        let reason = self.reason();
        self.home
            .patiently("it", "is refused and told no more", |found| {
                is_observed(found) && says_more_than_refused(found, reason).is_empty()
            })
            .map(drop)
    }

    /// Takes the part from those who had it.
    fn loses(&self) -> Result<()> {
        if self.given || !self.row.kind.is_farewell() {
            return Ok(());
        }
        self.give(false)?;
        if self.loses_standing() {
            let reason = self.reason();
            self.home.patiently("it", "is told that it lost its right", |found| {
                truth(found, "Authorized") == "False" && condition(found, "Authorized")["reason"] == reason
            })?;
        }
        Ok(())
    }

    /// Somebody goes.
    fn goes(&self) -> Result<()> {
        match &self.neighbour {
            Some(neighbour) => neighbour.delete("elder"),
            None if self.row.kind.is_farewell() => self.home.delete("it"),
            None => Ok(()),
        }
    }

    fn ends(&self) -> Result<()> {
        match &self.neighbour {
            Some(neighbour) => {
                neighbour.vanishes("elder")?;
                if self.is_refused() {
                    self.is_told_no_more()
                } else {
                    self.home.is_carried_out("it").map(drop)
                }
            }
            None if self.row.kind.is_farewell() => {
                // Contradicting grants are no missing ones: they are mended, or the binding is let go by force.
                if self.is_refused() && self.part == Part::Credentials {
                    self.home.patiently("it", "waits for a word", |found| {
                        is_observed(found) && reason(found) == "Conflict" && is_held(found)
                    })?;
                    self.home.annotate("it", FORCE_RELEASE, "true")?;
                    self.home.vanishes("it")?;
                    return self.told_once(&["ForceReleased"]);
                }
                self.home.vanishes("it")?;
                if self.is_refused() { self.told_once(&["LeftInPlace", "NotRestored"]) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }

    /// Waits for an Event of one of these reasons.
    fn told_once(&self, reasons: &[&str]) -> Result<()> {
        eventually_ok("an Event tells what was left", Duration::from_secs(20), || {
            let events = self.home.events("it")?;
            let found: Vec<&Value> = events.iter().map(|event| &event["reason"]).collect();
            ensure!(found.iter().any(|found| reasons.iter().any(|reason| *found == reason)), "{found:?}");
            Ok(())
        })
    }

    /// What EC2's journal has.
    fn judge(&self, journal: &[Call]) -> Result<()> {
        let expected = if self.is_refused() { self.row.lacking } else { self.row.granted };
        let about = |call: &&Call| call.instance.as_ref() == Some(&self.instance);
        let writes =
            journal.iter().filter(about).filter(|call| call.is_write() && call.result != "DryRunOperation");
        let written: Vec<&str> = writes.map(|call| call.action.as_str()).collect();
        ensure!(written == expected, "EC2 was asked for {written:?}, not for {expected:?}");
        // Tags cannot be known without looking; of everything else the answer follows from spec and grants.
        let from_afar = self.is_refused() && !self.row.kind.is_farewell() && self.neighbour.is_none();
        if from_afar && self.part != Part::Tag {
            let names = |call: &&Call| call.params.values().any(|value| *value == *self.instance);
            let asked = journal.iter().find(names);
            ensure!(asked.is_none(), "AWS was asked about the instance: {asked:?}");
        }
        Ok(())
    }
}

/// Takes all cells that have not failed through one stage, some at a time.
fn stage<'c, 'w>(
    cells: &'c [Cell<'w>],
    failed: &mut BTreeMap<String, String>,
    what: impl Fn(&'c Cell<'w>) -> Result<()> + Sync,
) -> Result<()> {
    const HANDS: usize = 6;
    let going: Vec<&Cell<'w>> = cells.iter().filter(|cell| !failed.contains_key(&cell.name())).collect();
    let outcomes = std::thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS)
            .map(|hand| {
                let (going, what) = (&going, &what);
                scope.spawn(move || {
                    let own = going.iter().skip(hand).step_by(HANDS);
                    own.map(|cell| (cell.name(), what(cell))).collect::<Vec<_>>()
                })
            })
            .collect();
        hands.into_iter().map(|hand| hand.join().ok()).collect::<Option<Vec<_>>>()
    });
    for (cell, outcome) in outcomes.context("a stage panicked")?.into_iter().flatten() {
        if let Err(error) = outcome {
            failed.insert(cell, format!("{error:#}"));
        }
    }
    Ok(())
}

#[test]
fn every_write_needs_every_part_of_a_grant() -> Result<()> {
    let plenty = |operation: &str| format!("--aws-budget={operation}=1000,1000");
    let world = World::new(WorldOptions {
        own_control_plane: true,
        sandbox_flags: vec!["--no-throttling".into()],
        controller_flags: [ASSOCIATE, REPLACE, DISASSOCIATE]
            .map(plenty)
            .into_iter()
            .chain(["--resync-interval=2s".into(), "--aws-budget-share=1".into()])
            .collect(),
        grants: Grants::None,
        ..WorldOptions::default()
    })?;
    for name in ["app", "old"] {
        world.sandbox().add_profile(&json!({"name": name, "path": "/team/"}))?;
    }
    let mut cells = Vec::new();
    for row in &TABLE {
        for part in PARTS {
            for given in [true, false] {
                cells.push(Cell::new(&world, part, row, given)?);
            }
        }
    }
    let everywhere = world.stranger("everywhere")?;
    let mut failed = BTreeMap::new();
    stage(&cells, &mut failed, Cell::predecessors)?;
    a_second_later()?;
    stage(&cells, &mut failed, Cell::bind)?;
    stage(&cells, &mut failed, Cell::settles)?;
    stage(&cells, &mut failed, Cell::loses)?;
    // Where no condition tells that a part was taken, time does.
    everywhere.passes(2)?;
    stage(&cells, &mut failed, Cell::goes)?;
    stage(&cells, &mut failed, Cell::ends)?;
    everywhere.passes(2)?;
    let journal = world.sandbox().calls_since(0)?;
    stage(&cells, &mut failed, |cell| cell.judge(&journal))?;
    if !failed.is_empty() {
        let mut told = String::new();
        for (cell, why) in &failed {
            writeln!(told, "{cell}: {why}")?;
        }
        bail!("{} of {} cells:\n{told}", failed.len(), cells.len());
    }
    Ok(())
}

#[test]
fn the_table_says_of_each_needless_part_why() {
    for row in &TABLE {
        for (part, why) in row.needless {
            assert!(!why.is_empty(), "{part:?} × {:?}", row.kind);
        }
    }
    assert_eq!(TABLE.len() * PARTS.len(), 88, "every part meets every kind of write");
}
