//! The table of aws-semantics 1.3: action × instance state.

use super::AssociationState::{Associated, Associating, Disassociated, Disassociating};
use super::*;

#[test]
fn associate_on_a_running_instance_is_associating_and_then_associated() {
    let mut story = Story::running();
    let row = story.associate(T, "app").unwrap();
    assert_eq!(row.state, Associating);
    assert_eq!(story.rows(T + 299), [("app".to_owned(), Associating)]);
    assert_eq!(story.rows(T + 300), [("app".to_owned(), Associated)]);
    assert_eq!(story.guest(T + 300), [(0, "nothing".to_owned()), (T + 100, "app".to_owned())]);
}

#[test]
fn replace_gives_a_new_id_and_shows_two_rows_and_leaves_no_gap() {
    let mut story = Story::with("running", Some("app"));
    let old = story.row_id(T);
    let new = story.replace(T, &old, "other").unwrap();
    assert_eq!(new.state, Associating);
    assert_ne!(*new.id, *old);
    let both = [("other".to_owned(), Associating), ("app".to_owned(), Disassociating)];
    assert_eq!(story.rows(T), both);
    assert_eq!(story.shown(T + 199).1.unwrap(), "app");
    assert_eq!(story.shown(T + 200).1.unwrap(), "other");
    assert_eq!(story.rows(T + 300), [("other".to_owned(), Associated)]);
    assert_eq!(story.guest(T + 300), [(0, "app".to_owned()), (T + 100, "other".to_owned())]);
}

#[test]
fn replace_to_the_same_profile_changes_nothing_and_keeps_the_id() {
    let mut story = Story::with("running", Some("app"));
    let old = story.row_id(T);
    let same = story.replace(T, &old, "app").unwrap();
    assert_eq!((&*same.id, same.state), (old.as_str(), Associated));
    assert_eq!(story.rows(T), [("app".to_owned(), Associated)]);
}

#[test]
fn a_profile_made_again_under_its_name_is_another_profile() {
    let mut story = Story::with("running", Some("empty"));
    let old = story.row_id(T);
    story.world.delete_profile(&story.scope, "empty").unwrap();
    assert_eq!(story.rows(T), [("empty".to_owned(), Associated)]);
    story.world.create_profile(T, &story.scope, "empty", "/").unwrap();
    let new = story.replace(T, &old, "empty").unwrap();
    assert_ne!(*new.id, *old);
}

#[test]
fn a_superseded_row_is_not_active_and_then_not_found() {
    let mut story = Story::with("running", Some("app"));
    let old = story.row_id(T);
    story.replace(T, &old, "other").unwrap();
    assert_eq!(code(story.replace(T + 1, &old, "empty")), "IncorrectState");
    assert_eq!(code(story.replace(T + 300, &old, "empty")), "InvalidAssociationID.NotFound");
    assert_eq!(code(story.disassociate(T + 300, &old)), "InvalidAssociationID.NotFound");
}

#[test]
fn disassociate_on_a_running_instance_takes_time_and_may_be_repeated() {
    let mut story = Story::with("running", Some("app"));
    let row = story.row_id(T);
    assert_eq!(story.disassociate(T, &row).unwrap().state, Disassociating);
    assert_eq!(story.disassociate(T + 299, &row).unwrap().state, Disassociating);
    assert_eq!(story.shown(T + 299).1.unwrap(), "app");
    assert_eq!(code(story.disassociate(T + 300, &row)), "InvalidAssociationID.NotFound");
    assert_eq!(story.shown(T + 300).1, None);
    assert_eq!(story.guest(T + 300), [(0, "app".to_owned()), (T + 100, "nothing".to_owned())]);
}

#[test]
fn a_row_that_exists_in_any_state_refuses_associate() {
    let mut story = Story::running();
    let row = story.associate(T, "app").unwrap().id;
    let refused = story.associate(T + 1, "app").unwrap_err();
    assert_eq!(refused.message, format!("There is an existing association for instance {ID}"));
    assert_eq!(code(story.associate(T + 400, "other")), "IncorrectState");
    story.disassociate(T + 400, &row).unwrap();
    assert_eq!(code(story.associate(T + 500, "other")), "IncorrectState");
    assert!(story.associate(T + 700, "other").is_ok());
}

#[test]
fn on_a_stopped_instance_replace_is_refused_and_detach_then_attach_works_at_once() {
    let mut story = Story::with("stopped", Some("app"));
    let row = story.row_id(T);
    let refused = story.replace(T, &row, "other").unwrap_err();
    assert_eq!(refused.message, format!("The association {row} is not the active association"));
    assert_eq!(story.disassociate(T, &row).unwrap().state, Disassociated);
    assert_eq!(story.rows(T), []);
    assert_eq!(story.associate(T, "other").unwrap().state, Associating);
}

#[test]
fn what_is_associated_while_stopped_waits_for_the_start() {
    let mut story = Story::with("stopped", None);
    story.associate(T, "app").unwrap();
    assert_eq!(story.rows(T + 900_000), [("app".to_owned(), Associating)]);
    story.world.start_instances(2 * T, &story.scope, &[ID.to_owned()], false).unwrap();
    assert_eq!(story.rows(2 * T + 500), [("app".to_owned(), Associated)]);
    let woken = [(0, "down".to_owned()), (2 * T, "down".to_owned()), (2 * T + 200, "app".to_owned())];
    assert_eq!(story.guest(2 * T + 500), woken);
}

#[test]
fn on_its_way_between_states_an_instance_refuses_every_write() {
    for state in ["pending", "stopping", "shutting-down"] {
        let mut story = Story::with(state, Some("app"));
        let row = story.row_id(0);
        assert_eq!(code(story.associate(0, "other")), "IncorrectInstanceState", "{state}");
        assert_eq!(code(story.replace(0, &row, "other")), "IncorrectState", "{state}");
        assert_eq!(code(story.disassociate(0, &row)), "IncorrectInstanceState", "{state}");
    }
}

#[test]
fn a_terminated_instance_has_no_association_and_takes_none() {
    let mut story = Story::with("running", Some("app"));
    let row = story.row_id(T);
    story.world.terminate_instances(T, &story.scope, &[ID.to_owned()], false).unwrap();
    assert_eq!(story.rows(T + 200), []);
    assert_eq!(story.shown(T + 200), (InstanceState::Terminated, None));
    let refused = story.associate(T + 200, "app").unwrap_err();
    assert_eq!(refused.code, "IncorrectInstanceState");
    assert_eq!(refused.message, format!("The instance '{ID}' is not in the 'running' or 'stopped' states."));
    assert_eq!(code(story.disassociate(T + 200, &row)), "InvalidAssociationID.NotFound");
}

#[test]
fn a_profile_without_a_role_is_associated_and_gives_nothing() {
    let mut story = Story::running();
    story.associate(T, "empty").unwrap();
    assert_eq!(story.rows(T + 300), [("empty".to_owned(), Associated)]);
    assert_eq!(story.guest(T + 300), [(0, "nothing".to_owned())]);
}

#[test]
fn a_role_that_ec2_may_not_assume_keeps_the_row_associating_until_its_trust_is_repaired() {
    let mut story = Story::running();
    story.associate(T, "broken").unwrap();
    assert_eq!(story.shown(T).1.unwrap(), "broken");
    assert_eq!(story.rows(T + 900_000), [("broken".to_owned(), Associating)]);
    assert_eq!(story.guest(T + 100).last().unwrap().1, "unauthorized");
    let trust = json!({"Statement": {"Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"Service": "ec2.amazonaws.com"}}});
    story.world.update_trust(2 * T, &story.scope, "broken", &trust.to_string()).unwrap();
    assert_eq!(story.rows(2 * T + 300), [("broken".to_owned(), Associated)]);
    assert_eq!(story.guest(2 * T + 300).last().unwrap().1, "broken");
}

#[test]
fn a_role_removed_from_an_attached_profile_stays_with_the_guest_until_a_restart() {
    let mut story = Story::with("running", Some("app"));
    story.world.remove_role(&story.scope, "app", "app").unwrap();
    assert_eq!(story.rows(T), [("app".to_owned(), Associated)]);
    assert_eq!(story.guest(T).last().unwrap().1, "app");
    story.world.stop_instances(T, &story.scope, &[ID.to_owned()], false).unwrap();
    story.world.start_instances(2 * T, &story.scope, &[ID.to_owned()], false).unwrap();
    assert_eq!(story.guest(3 * T).last().unwrap().1, "nothing");
}

#[test]
fn a_stuck_row_refuses_replace_until_it_is_disassociated() {
    for state in ["associating", "disassociating"] {
        let mut story = Story::with("running", Some("app"));
        let row = story.row_id(T);
        story.world.stick(T, &row, state).unwrap();
        assert_eq!(code(story.replace(2 * T, &row, "other")), "IncorrectState", "{state}");
        assert_eq!(story.rows(2 * T).len(), 1, "{state}");
        story.disassociate(2 * T, &row).unwrap();
        assert_eq!(story.rows(2 * T + 300), [], "{state}");
        assert!(story.associate(2 * T + 300, "other").is_ok(), "{state}");
    }
}

#[test]
fn replace_while_associating_follows_the_setting() {
    for (allowed, expected) in [(true, true), (false, false)] {
        let mut story = Story::running();
        story.world.settings.replace_while_associating = allowed;
        let row = story.associate(T, "app").unwrap().id;
        assert_eq!(story.replace(T + 1, &row, "other").is_ok(), expected);
    }
}

#[test]
fn an_instance_ec2_manages_is_refused_for_everybody() {
    let mut story = Story::running();
    let seed = json!({"region": REGION, "ids": ["i-0fedcba9876543210"], "managed": true, "profile": "app"});
    let row = story.world.seed_instances(0, &from(seed)).unwrap().associations[0].clone().unwrap();
    assert_eq!(code(story.replace(T, &row, "other")), "OperationNotPermitted");
    assert_eq!(code(story.disassociate(T, &row)), "OperationNotPermitted");
}

#[test]
fn a_change_from_outside_is_there_at_once() {
    let mut story = Story::with("running", Some("app"));
    let change = Forced { profile: Some(Some("other".to_owned())), ..Forced::default() };
    story.world.force(T, "123456789012", REGION, ID, &change).unwrap();
    assert_eq!(story.rows(T), [("other".to_owned(), Associated)]);
    assert_eq!(story.shown(T).1.unwrap(), "other");
    let change = Forced { profile: Some(None), state: Some(InstanceState::Stopped), ..Forced::default() };
    story.world.force(T + 1, "123456789012", REGION, ID, &change).unwrap();
    assert_eq!(story.shown(T + 1), (InstanceState::Stopped, None));
}
