//! EC2's results as XML.

use super::xml::Xml;
use crate::time::iso;
use crate::world::{
    AssociationView, DescribedAssociations, DescribedInstances, InstanceState, InstanceView, Scope,
    StateChange,
};

pub fn association(row: &AssociationView) -> String {
    let mut xml = Xml::default();
    xml.nest("iamInstanceProfileAssociation", |xml| fill_association(xml, row));
    xml.finish()
}

pub fn associations(described: &DescribedAssociations) -> String {
    let mut xml = Xml::default();
    xml.list("iamInstanceProfileAssociationSet", "item", &described.rows, fill_association);
    xml.optional("nextToken", described.token.as_deref());
    xml.finish()
}

/// No `timestamp`: it was absent from every reply captured.
fn fill_association(xml: &mut Xml, row: &AssociationView) {
    xml.leaf("associationId", &row.id);
    xml.leaf("instanceId", &row.instance);
    xml.nest("iamInstanceProfile", |xml| {
        xml.leaf("arn", &row.profile.arn);
        xml.leaf("id", &row.profile.id);
    });
    xml.leaf("state", row.state.name());
}

pub fn reservations(scope: &Scope, described: &DescribedInstances) -> String {
    let mut xml = Xml::default();
    xml.list("reservationSet", "item", &described.instances, |xml, instance| {
        fill_reservation(xml, scope, std::slice::from_ref(instance));
    });
    xml.optional("nextToken", described.token.as_deref());
    xml.finish()
}

pub fn reservation(scope: &Scope, instances: &[InstanceView]) -> String {
    let mut xml = Xml::default();
    fill_reservation(&mut xml, scope, instances);
    xml.finish()
}

fn fill_reservation(xml: &mut Xml, scope: &Scope, instances: &[InstanceView]) {
    let launch = instances.first().map(|instance| &instance.launch);
    let reservation = launch.map(|launch| launch.reservation.as_str()).filter(|id| !id.is_empty());
    xml.leaf("reservationId", reservation.unwrap_or("r-0123456789abcdef0"));
    xml.leaf("ownerId", &scope.account);
    xml.list("instancesSet", "item", instances, |xml, instance| fill_instance(xml, scope, instance));
}

fn fill_instance(xml: &mut Xml, scope: &Scope, instance: &InstanceView) {
    xml.leaf("instanceId", &instance.id);
    xml.leaf("imageId", &instance.launch.image_id);
    xml.nest("instanceState", |xml| fill_state(xml, instance.state));
    xml.leaf("instanceType", &instance.launch.instance_type);
    xml.leaf("launchTime", &iso(instance.launch.at));
    xml.nest("placement", |xml| {
        xml.leaf("availabilityZone", &format!("{}a", scope.region));
        xml.leaf("tenancy", "default");
    });
    if let Some(profile) = &instance.profile {
        xml.nest("iamInstanceProfile", |xml| {
            xml.leaf("arn", &profile.arn);
            xml.leaf("id", &profile.id);
        });
    }
    if !instance.tags.is_empty() {
        xml.list("tagSet", "item", instance.tags.iter(), |xml, (key, value)| {
            xml.leaf("key", key);
            xml.leaf("value", value);
        });
    }
    xml.nest("operator", |xml| {
        xml.leaf("managed", if instance.launch.managed { "true" } else { "false" });
        xml.optional("principal", instance.launch.managed.then_some("eks.amazonaws.com"));
    });
}

fn fill_state(xml: &mut Xml, state: InstanceState) {
    xml.leaf("code", &state.code().to_string());
    xml.leaf("name", state.name());
}

pub fn state_changes(changes: &[StateChange]) -> String {
    let mut xml = Xml::default();
    xml.list("instancesSet", "item", changes, |xml, change| {
        xml.leaf("instanceId", &change.id);
        xml.nest("currentState", |xml| fill_state(xml, change.current));
        xml.nest("previousState", |xml| fill_state(xml, change.previous));
    });
    xml.finish()
}
