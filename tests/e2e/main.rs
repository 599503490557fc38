//! The controller, end to end: a real API server, the real SDK over HTTP, and an EC2 that answers as EC2 does.
//!
//! Most scenarios share one control plane, one sandbox and one controller ([`world::World::shared`]), each in a
//! namespace of its own with instances of its own. Those that need a policy, a flag or the end of a controller
//! have a world of their own. What nobody may do stands in `attacks`, what each right is worth in `grants_matrix`.

#![allow(clippy::indexing_slicing, reason = "a panic is how a test fails, in the helpers of tests as well")]

mod a_converged_binding_costs_nothing;
mod a_gitops_repository;
mod a_manifest_is_judged_as_the_api_server_judges;
mod a_plan_on_a_pull_request;
mod admission;
mod an_edit_acts_at_once;
mod another_tool_keeps_changing_it;
mod attacks;
mod aws_says_no;
mod aws_takes_no_credentials;
mod chart;
mod command;
mod conditions_of_others;
mod crash_points;
mod deleting_a_binding;
mod ec2_answers_badly;
mod everything_at_once;
mod exporting_a_fleet;
mod fault_matrix;
mod garbled_answers;
mod grants;
mod grants_matrix;
mod iam_policies;
mod killed_in_the_middle;
mod leader_election;
mod look_but_do_not_touch;
mod moto;
mod no_diff_comes_from_us;
mod nobody_waits_for_another;
mod plan_agrees_with_run;
mod plan_tells_what_would_be_done;
mod rights_of_the_controller;
mod samples;
mod someone_else_changed_it;
mod stage;
mod starting_and_stopping;
mod storms;
mod the_dashboard;
mod the_docs_are_true;
mod the_docs_show_what_is_printed;
mod the_instance_is_not_ready;
mod the_profile_is_not_ready;
mod the_shipped_manifests;
mod the_trail_of_changes;
mod too_much_changed_at_once;
mod traces;
mod two_bindings_for_one_instance;
mod what_kubectl_shows;
mod what_nobody_saw;
mod what_the_api_server_refuses;
mod within_ec2s_limits;
