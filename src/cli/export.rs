//! `export`: manifests of the associations that exist now. Applied, they change nothing at EC2, since each declares what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tokio::sync::mpsc;

use super::values;
use super::version::BUILD;
use crate::api::{GROUP, VERSION};
use crate::decide::{Instance, InstanceState, Rows, node_tag};
use crate::ec2::cloud::Environment;
use crate::ec2::survey::{Found, survey};
use crate::ec2::{Cloud, again};
use crate::ids::{InstanceId, ProfileArn, Region};
use crate::telemetry::Metrics;

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Region to export; may be repeated [default: the one of AWS_REGION]
    #[arg(long, env = "INSTANCE_ROLE_REGION", value_parser = values::region, value_name = "REGION", value_delimiter = ',')]
    region: Vec<Region>,

    /// Export only instances that carry this tag, as key=value; may be repeated: then all of them [default: all instances]
    #[arg(long, env = "INSTANCE_ROLE_TAG", value_parser = values::tag, value_name = "KEY=VALUE")]
    tag: Vec<(Arc<str>, Arc<str>)>,

    /// Namespace of the manifests
    #[arg(short = 'n', long, env = "INSTANCE_ROLE_NAMESPACE", default_value = "default", value_parser = values::namespace, value_name = "NAMESPACE")]
    namespace: String,

    /// Also write an InstanceRoleGrant that lets the namespace have just these profiles on just these instances
    #[arg(long, env = "INSTANCE_ROLE_WITH_GRANT", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    with_grant: bool,

    /// Share of EC2's published limits that the reads of this command may use, above 0 up to 1
    #[arg(long, env = "INSTANCE_ROLE_AWS_BUDGET_SHARE", default_value = "0.5", value_parser = values::share, value_name = "SHARE")]
    aws_budget_share: f64,
}

/// What the CRD lets one grant hold.
const MOST_IDS: usize = 1000;
const MOST_PROFILES: usize = 100;
const MOST_REGIONS: usize = 50;

/// An association that is exported.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exported {
    region: Region,
    instance: InstanceId,
    profile: ProfileArn,
    /// The instance's Name tag.
    called: Option<String>,
}

/// Prints the manifests; what is left out is told on standard error.
///
/// # Errors
/// AWS does not answer, or denies it.
pub async fn export(args: ExportArgs) -> anyhow::Result<()> {
    let environment = Environment::load().await?;
    let metrics = Arc::new(Metrics::new(BUILD).context("the metrics cannot be declared")?);
    let identity = again(|| environment.identity(Arc::clone(&metrics)))
        .await
        .context("AWS does not say who we are (credentials, network, AWS_REGION)")?;
    let mut regions: BTreeSet<Region> = args.region.iter().cloned().collect();
    if regions.is_empty() {
        regions.insert(environment.region.clone());
    }
    let (changed, _) = mpsc::unbounded_channel();
    let share = args.aws_budget_share;
    let cloud = Cloud::new(environment, identity.account.clone(), share, None, metrics, changed);
    let (mut exported, mut left_out) = (Vec::new(), Vec::new());
    for region in &regions {
        let (connection, _) = cloud.connect(&None, region).await;
        let found = survey(connection.fleet.ec2()).await.with_context(|| format!("Region {region}"))?;
        for (instance, found) in found {
            match select(&found, &args.tag) {
                Ok(profile) => {
                    let called = called(&found.instance);
                    exported.push(Exported { region: region.clone(), instance, profile, called });
                }
                Err(reason) => left_out.push((region, instance, reason)),
            }
        }
    }
    let mut text = String::new();
    if args.with_grant {
        for grant in grants(&exported, &args.namespace) {
            text.push_str(&document(&grant, None)?);
        }
    }
    for one in &exported {
        text.push_str(&document(&binding(one, &args.namespace), one.called.as_deref())?);
    }
    io::stdout().lock().write_all(text.as_bytes()).context("the manifests cannot be printed")?;
    tell(&exported, &left_out, &regions);
    Ok(())
}

/// Why an instance is left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum LeftOut {
    /// It was not asked for.
    Tags,
    Leaving,
    Unclear,
    Managed,
    Node(String),
    Ended(String),
}

impl LeftOut {
    fn words(&self) -> String {
        match self {
            Self::Tags => "does not carry the tags".into(),
            Self::Leaving => "its profile is being taken off".into(),
            Self::Unclear => "EC2 shows associations of it that this version does not understand".into(),
            Self::Managed => "an AWS service manages it and lets nobody change its profile".into(),
            Self::Node(tag) => format!(
                "it is a node of a cluster (tag {}), whose role is set where its node group is",
                tag.escape_debug()
            ),
            Self::Ended(state) => format!("it is {state}"),
        }
    }
}

/// The profile to declare, or why the instance is left out.
fn select(found: &Found, tags: &[(Arc<str>, Arc<str>)]) -> Result<ProfileArn, LeftOut> {
    let carried = match &found.instance {
        Instance::Absent | Instance::Impossible => return Err(LeftOut::Ended("gone".into())),
        Instance::Present { tags: carried, .. } => carried,
    };
    if !tags.iter().all(|(key, value)| carried.has(key, value)) {
        return Err(LeftOut::Tags);
    }
    match &found.instance {
        Instance::Present { managed: true, .. } => return Err(LeftOut::Managed),
        Instance::Present { state, .. } => {
            if matches!(state, InstanceState::ShuttingDown | InstanceState::Terminated) {
                return Err(LeftOut::Ended(state.to_string()));
            }
        }
        Instance::Absent | Instance::Impossible => {}
    }
    if let Some(tag) = node_tag(carried) {
        return Err(LeftOut::Node(tag.to_owned()));
    }
    match &found.rows {
        Rows::One(row) | Rows::Replacing { arriving: row, .. } => Ok(row.profile.clone()),
        Rows::Leaving(_) | Rows::Bare => Err(LeftOut::Leaving),
        Rows::Unclear => Err(LeftOut::Unclear),
    }
}

fn called(instance: &Instance) -> Option<String> {
    let Instance::Present { tags, .. } = instance else { return None };
    tags.get("Name").filter(|name| !name.is_empty()).map(|name| name.escape_debug().to_string())
}

fn tell(exported: &[Exported], left_out: &[(&Region, InstanceId, LeftOut)], regions: &BTreeSet<Region>) {
    let mut unasked = 0;
    for (region, instance, reason) in left_out {
        if *reason == LeftOut::Tags {
            unasked += 1;
        } else {
            eprintln!("note: left out {instance} ({region}): {}", reason.words());
        }
    }
    let regions: Vec<&str> = regions.iter().map(Region::as_str).collect();
    let others = if unasked > 0 { format!(", {unasked} do not carry the tags") } else { String::new() };
    eprintln!(
        "exported {} of {} instances with an instance profile in {}{others}; instances without one are not looked at",
        exported.len(),
        exported.len() + left_out.len(),
        regions.join(", ")
    );
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<S> {
    api_version: String,
    kind: &'static str,
    metadata: Metadata,
    spec: S,
}

#[derive(Debug, Serialize)]
struct Metadata {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    instance_id: String,
    region: String,
    instance_profile: Profile,
    deletion_policy: &'static str,
}

#[derive(Debug, Serialize)]
struct Profile {
    arn: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Grant {
    namespaces: Names,
    instance_profiles: Vec<String>,
    instances: Instances,
    allow_none: bool,
}

#[derive(Debug, Serialize)]
struct Names {
    names: [String; 1],
}

#[derive(Debug, Serialize)]
struct Instances {
    regions: Vec<String>,
    ids: Vec<String>,
}

fn document<S: Serialize>(manifest: &Manifest<S>, called: Option<&str>) -> anyhow::Result<String> {
    let yaml = serde_yaml::to_string(manifest).context("a manifest cannot be printed")?;
    let comment = called.map(|name| format!("# Name: {name}\n")).unwrap_or_default();
    Ok(format!("---\n{comment}{yaml}"))
}

/// An instance's id is the name of its binding: it lasts as long as the instance, and is a name for Kubernetes.
fn binding(exported: &Exported, namespace: &str) -> Manifest<Binding> {
    let Exported { region, instance, profile, .. } = exported;
    Manifest {
        api_version: format!("{GROUP}/{VERSION}"),
        kind: "InstanceRoleBinding",
        metadata: Metadata { name: instance.to_string(), namespace: Some(namespace.to_owned()) },
        spec: Binding {
            instance_id: instance.to_string(),
            region: region.to_string(),
            instance_profile: Profile { arn: profile.to_string() },
            // A later prune of the manifests takes nothing off.
            deletion_policy: "Retain",
        },
    }
}

/// Grants that cover just these: one, unless the CRD's limits need more.
fn grants(exported: &[Exported], namespace: &str) -> Vec<Manifest<Grant>> {
    let mut by_profile: Vec<&Exported> = exported.iter().collect();
    by_profile
        .sort_by(|a, b| (&a.profile, &a.region, &a.instance).cmp(&(&b.profile, &b.region, &b.instance)));
    let mut parts: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for Exported { region, instance, profile, .. } in by_profile {
        let members =
            [("profiles", profile.as_str()), ("regions", region.as_str()), ("ids", instance.as_str())];
        let room = |part: &BTreeMap<&str, BTreeSet<&str>>| {
            members.iter().zip([MOST_PROFILES, MOST_REGIONS, MOST_IDS]).all(|((list, member), most)| {
                part.get(list).is_none_or(|held| held.len() < most || held.contains(member))
            })
        };
        if !parts.last().is_some_and(room) {
            parts.push(BTreeMap::new());
        }
        if let Some(part) = parts.last_mut() {
            for (list, member) in members {
                part.entry(list).or_default().insert(member);
            }
        }
    }
    let grant = |(nth, part): (usize, BTreeMap<&str, BTreeSet<&str>>)| {
        let list = |name| part.get(name).into_iter().flatten().map(|member| (*member).to_owned()).collect();
        let suffix = if nth == 0 { String::new() } else { format!("-{}", nth + 1) };
        Manifest {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: "InstanceRoleGrant",
            metadata: Metadata { name: format!("exported-{namespace}{suffix}"), namespace: None },
            spec: Grant {
                namespaces: Names { names: [namespace.to_owned()] },
                instance_profiles: list("profiles"),
                instances: Instances { regions: list("regions"), ids: list("ids") },
                // None of these is without a profile, so none need ever be.
                allow_none: false,
            },
        }
    };
    parts.into_iter().enumerate().map(grant).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Association, AssociationState, Tags};
    use crate::ids::AssociationId;
    use crate::manifest::Manifests;
    use crate::manifest::sources::Text;

    fn exported(nth: usize, profile: usize) -> Exported {
        Exported {
            region: Region::parse("eu-west-1").unwrap(),
            instance: InstanceId::parse(&format!("i-{nth:017x}")).unwrap(),
            profile: ProfileArn::parse(&format!("arn:aws:iam::123456789012:instance-profile/p{profile}"))
                .unwrap(),
            called: None,
        }
    }

    fn row(state: AssociationState) -> Rows {
        Rows::of([Association {
            id: AssociationId::parse("iip-assoc-1").unwrap(),
            profile: exported(0, 1).profile,
            profile_id: None,
            state,
            since: jiff::Timestamp::UNIX_EPOCH,
        }])
    }

    fn present(state: InstanceState, managed: bool, tags: &[(&str, &str)]) -> Instance {
        Instance::Present { state, managed, tags: tags.iter().copied().collect::<Tags>() }
    }

    #[test]
    fn what_cannot_be_kept_is_left_out_with_its_reason() {
        use AssociationState::{Associated, Disassociating};
        use InstanceState::{Running, Stopped, Terminated};
        for (rows, instance, expected) in [
            (row(Associated), present(Running, false, &[]), Ok(exported(0, 1).profile)),
            (row(Associated), present(Stopped, false, &[("team", "a")]), Ok(exported(0, 1).profile)),
            (row(Disassociating), present(Running, false, &[]), Err(LeftOut::Leaving)),
            (row(Associated), present(Running, true, &[]), Err(LeftOut::Managed)),
            (row(Associated), present(Terminated, false, &[]), Err(LeftOut::Ended("terminated".into()))),
            (row(Associated), Instance::Absent, Err(LeftOut::Ended("gone".into()))),
            (
                row(Associated),
                present(Running, false, &[("eks:cluster-name", "x")]),
                Err(LeftOut::Node("eks:cluster-name".into())),
            ),
            (Rows::Unclear, present(Running, false, &[]), Err(LeftOut::Unclear)),
        ] {
            assert_eq!(select(&Found { rows, instance }, &[]), expected);
        }
        let tag = [("team".into(), "b".into())];
        let found = Found { rows: row(Associated), instance: present(Running, false, &[("team", "a")]) };
        assert_eq!(select(&found, &tag), Err(LeftOut::Tags));
    }

    #[test]
    fn what_is_printed_can_be_read_back_and_names_of_others_break_no_line() {
        let one = exported(1, 1);
        let called = called(&present(InstanceState::Running, false, &[("Name", "web\nkind: Evil\u{2028}x")]));
        let text = document(&binding(&one, "team-a"), called.as_deref()).unwrap();
        assert!(text.starts_with("---\n# Name: web\\nkind: Evil\\u{2028}x\napiVersion: "), "{text}");
        let text = text + &document(&grants(&[one], "team-a").remove(0), None).unwrap();
        let read = Manifests::read(&[Text { name: "x".into(), bytes: text.into_bytes() }], "default");
        assert_eq!((read.bindings.len(), read.grants.len(), read.problems), (1, 1, vec![]));
    }

    #[test]
    fn a_fleet_that_is_too_large_for_one_grant_gets_more_and_each_instance_is_in_one_with_its_profile() {
        let fleet: Vec<Exported> = (0..2500).map(|n| exported(n, n % 250)).collect();
        let grants = grants(&fleet, "a");
        let names: Vec<&str> = grants.iter().map(|grant| grant.metadata.name.as_str()).collect();
        assert_eq!(names, ["exported-a", "exported-a-2", "exported-a-3"]);
        for Exported { instance, profile, .. } in &fleet {
            let holds = |grant: &&Manifest<Grant>| {
                grant.spec.instances.ids.contains(&instance.to_string())
                    && grant.spec.instance_profiles.contains(&profile.to_string())
            };
            assert_eq!(grants.iter().filter(holds).count(), 1, "{instance}");
        }
        for grant in &grants {
            assert!(grant.spec.instances.ids.len() <= MOST_IDS, "{}", grant.spec.instances.ids.len());
            assert!(grant.spec.instance_profiles.len() <= MOST_PROFILES);
        }
    }
}
