//! The EC2 and IAM that the samples start from.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};
use world::World;

use crate::samples::Sample;
use crate::screen::Screen;

/// Makes the profiles and instances that the samples name.
pub fn set(world: &World, samples: &[Sample]) -> Result<()> {
    let wanted = samples.iter().filter_map(|sample| sample.profile.clone());
    let before = samples.iter().filter_map(|sample| Some(json!({"name": sample.before.as_ref()?})));
    let mut made = BTreeSet::new();
    for profile in wanted.chain(before) {
        if made.insert(profile["name"].to_string()) {
            world.sandbox().add_profile(&profile)?;
        }
    }
    for sample in samples.iter().filter(|sample| sample.state != "absent") {
        let instance = json!({"ids": [sample.instance], "state": sample.state, "profile": sample.before});
        world.sandbox().add_instances(&instance)?;
    }
    Ok(())
}

/// Shows, as the `aws` CLI tells it, what each instance has beside what its binding will ask for.
pub fn show(world: &World, screen: &Screen, samples: &[Sample]) -> Result<()> {
    let query = "Reservations[].Instances[].[InstanceId,State.Name,IamInstanceProfile.Arn]";
    screen.text("By `aws ec2 describe-instances`, beside what each binding will ask for:");
    let told = world.sandbox().aws_cli().run(&["ec2", "describe-instances", "--query", query])?;
    let row = |[id, state, has, asked, name]: [&str; 5]| {
        screen.output(&format!("{id:<21}{state:<11}{has:<17}{asked:<27}{name}"));
    };
    row(["INSTANCE", "STATE", "PROFILE", "WILL BE ASKED FOR", "BY THE BINDING"]);
    for sample in samples {
        let found = told.as_array().into_iter().flatten().find(|row| row[0] == sample.instance);
        let text = |of: usize| found.and_then(|row| row[of].as_str()).unwrap_or("-").to_owned();
        let state = if found.is_some() { text(1) } else { "not there".to_owned() };
        row([&sample.instance, &state, short(&text(2)), &sample.asked, &sample.name]);
    }
    Ok(())
}

/// A profile's ARN without what is the same in all of them.
pub fn short(arn: &str) -> &str {
    arn.split_once(":instance-profile/").map_or(arn, |(_, name)| name)
}

/// The member of this name as text, or nothing.
pub fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
