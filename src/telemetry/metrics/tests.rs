//! The rendered text, its series, and what stays out of it.

use std::collections::BTreeSet;

use super::*;

mod shipped;

fn metrics() -> Metrics {
    Metrics::new(BuildInfo { version: "0.1.0", commit: "abc1234" }).unwrap()
}

/// The value of a series by its name and labels as rendered, if it is there.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.render().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
    line.map(|value| value.parse().unwrap())
}

/// Every call there is, so that every metric has a series.
fn used() -> Metrics {
    let metrics = metrics();
    metrics.leader("instance-role-controller", true);
    metrics.kubernetes_request("PATCH", Some(200));
    metrics.budget("DescribeInstances", 0.5);
    metrics.bindings([count("Ready", "True", "Associated", 3)]);
    metrics
}

fn count(condition: &'static str, status: &'static str, reason: &'static str, count: usize) -> BindingCount {
    BindingCount { condition, status, reason, count }
}

#[test]
fn the_names_are_those_of_the_conventions() {
    let text = used().render().unwrap();
    let names: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| !name.starts_with("process_"))
        .collect();
    let expected = BTreeSet::from([
        "controller_runtime_reconcile_total",
        "controller_runtime_reconcile_errors_total",
        "controller_runtime_terminal_reconcile_errors_total",
        "controller_runtime_reconcile_panics_total",
        "controller_runtime_reconcile_time_seconds",
        "controller_runtime_max_concurrent_reconciles",
        "controller_runtime_active_workers",
        "workqueue_depth",
        "workqueue_adds_total",
        "workqueue_queue_duration_seconds",
        "workqueue_work_duration_seconds",
        "workqueue_unfinished_work_seconds",
        "workqueue_longest_running_processor_seconds",
        "workqueue_retries_total",
        "leader_election_master_status",
        "rest_client_requests_total",
        "instancerole_aws_api_requests_total",
        "instancerole_aws_api_request_duration_seconds",
        "instancerole_aws_api_throttles_total",
        "instancerole_aws_api_budget_ratio",
        "instancerole_mutations_total",
        "instancerole_resync_interval_seconds",
        "instancerole_released_total",
        "instancerole_drift_detected_total",
        "instancerole_contention_total",
        "instancerole_circuits_open",
        "instancerole_bindings",
        "instancerole_list_pages",
        "instancerole_list_age_seconds",
        "instancerole_convergence_seconds",
        "instancerole_build_info",
    ]);
    assert_eq!(names, expected);
    assert!(text.contains("process_resident_memory_bytes"), "{text}");
}

#[test]
fn known_series_start_at_zero() {
    let fresh = metrics();
    for series in [
        r#"controller_runtime_reconcile_total{controller="instancerolebinding",result="requeue_after"}"#,
        r#"controller_runtime_reconcile_panics_total{controller="instancerolebinding"}"#,
        r#"instancerole_aws_api_requests_total{code="OK",operation="DescribeInstances"}"#,
        r#"instancerole_aws_api_throttles_total{operation="AssociateIamInstanceProfile"}"#,
        r#"instancerole_mutations_total{operation="DisassociateIamInstanceProfile",result="unknown"}"#,
        r#"instancerole_drift_detected_total{cause="detached"}"#,
        "instancerole_convergence_seconds_count",
        "instancerole_list_age_seconds",
    ] {
        assert_eq!(value(&fresh, series), Some(0.0), "{series}");
    }
    assert_eq!(value(&fresh, r#"instancerole_build_info{commit="abc1234",version="0.1.0"}"#), Some(1.0));
    assert_eq!(value(&fresh, r#"leader_election_master_status{name="instance-role-controller"}"#), None);
}

#[test]
fn foreign_words_do_not_grow_the_number_of_series() {
    let metrics = used();
    let series =
        |metrics: &Metrics| metrics.render().unwrap().lines().filter(|l| !l.starts_with('#')).count();
    let call = |i: usize| {
        metrics.aws_request(&format!("Op{i}"), &format!("Code{i}"), 0.1);
        metrics.throttled(&format!("Op{i}"));
        metrics.mutation(&format!("Op{i}"), MutationResult::Failed);
        metrics.budget(&format!("Op{i}"), 1.0);
        metrics.kubernetes_request(&format!("M{i}"), Some(600 + u16::try_from(i).unwrap()));
        metrics.list(&format!("view-{i}"), 1, Duration::ZERO);
    };
    call(0);
    let once = series(&metrics);
    (1..500).for_each(call);
    assert_eq!(series(&metrics), once);
    let other = r#"instancerole_aws_api_requests_total{code="Other",operation="Other"}"#;
    assert_eq!(value(&metrics, other), Some(500.0));
    assert_eq!(value(&metrics, "instancerole_list_pages"), Some(500.0));
}

#[test]
fn each_call_moves_its_series_by_one() {
    let metrics = used();
    metrics.panic();
    metrics.contention();
    metrics.circuits_open(2);
    metrics.max_concurrent_reconciles(16);
    metrics.drift(DriftCause::Replaced);
    metrics.mutation("AssociateIamInstanceProfile", MutationResult::Refused);
    metrics.released("LeftInPlace");
    metrics.throttled("DescribeInstances");
    metrics.aws_request("DescribeInstances", "RequestLimitExceeded", 0.2);
    metrics.convergence(1.5);
    for (series, expected) in [
        (r#"controller_runtime_reconcile_panics_total{controller="instancerolebinding"}"#, 1.0),
        ("instancerole_contention_total", 1.0),
        ("instancerole_circuits_open", 2.0),
        (r#"controller_runtime_max_concurrent_reconciles{controller="instancerolebinding"}"#, 16.0),
        (r#"instancerole_drift_detected_total{cause="replaced"}"#, 1.0),
        (r#"instancerole_mutations_total{operation="AssociateIamInstanceProfile",result="refused"}"#, 1.0),
        (r#"instancerole_released_total{outcome="LeftInPlace"}"#, 1.0),
        (r#"instancerole_aws_api_throttles_total{operation="DescribeInstances"}"#, 1.0),
        (
            r#"instancerole_aws_api_requests_total{code="RequestLimitExceeded",operation="DescribeInstances"}"#,
            1.0,
        ),
        (r#"instancerole_aws_api_request_duration_seconds_sum{operation="DescribeInstances"}"#, 0.2),
        (r#"instancerole_aws_api_budget_ratio{operation="DescribeInstances"}"#, 0.5),
        ("instancerole_convergence_seconds_sum", 1.5),
        (r#"rest_client_requests_total{code="200",method="PATCH"}"#, 1.0),
        (r#"leader_election_master_status{name="instance-role-controller"}"#, 1.0),
    ] {
        assert_eq!(value(&metrics, series), Some(expected), "{series}");
    }
}

#[test]
fn a_pass_is_measured_whichever_way_it_ends() {
    let metrics = metrics();
    let of = |name: &str| {
        value(&metrics, &format!(r#"controller_runtime_{name}{{controller="instancerolebinding"}}"#))
    };
    let ended = |result: &str| {
        let labels = format!(r#"controller="instancerolebinding",result="{result}""#);
        value(&metrics, &format!("controller_runtime_reconcile_total{{{labels}}}"))
    };
    let queue = |name: &str| {
        let series =
            format!(r#"workqueue_{name}{{controller="instancerolebinding",name="instancerolebinding"}}"#);
        value(&metrics, &series)
    };
    let under_way = metrics.reconcile_timer();
    assert_eq!(of("active_workers"), Some(1.0));
    let (all, longest) = (queue("unfinished_work_seconds"), queue("longest_running_processor_seconds"));
    assert!(all > Some(0.0) && longest > Some(0.0), "{all:?} {longest:?}");
    under_way.finish(ReconcileResult::RequeueAfter);
    metrics.reconcile_timer().finish(ReconcileResult::Error);
    drop(metrics.reconcile_timer()); // cancelled
    let timer = metrics.reconcile_timer();
    let broken = std::thread::spawn(move || {
        let _timer = timer;
        std::panic::resume_unwind(Box::new("broken"));
    });
    assert!(broken.join().is_err());

    assert_eq!(of("active_workers"), Some(0.0));
    assert_eq!(of("reconcile_time_seconds_count"), Some(4.0));
    assert_eq!((ended("requeue_after"), ended("error"), ended("success")), (Some(1.0), Some(2.0), Some(0.0)));
    assert_eq!(of("reconcile_errors_total"), Some(2.0));
    assert_eq!((queue("work_duration_seconds_count"), queue("retries_total")), (Some(4.0), Some(2.0)));
    assert_eq!(queue("unfinished_work_seconds"), Some(0.0));
}

#[test]
fn bindings_are_set_as_a_whole() {
    let metrics = metrics();
    let ready = r#"instancerole_bindings{condition="Ready",reason="Associated",status="True"}"#;
    let stalled = r#"instancerole_bindings{condition="Stalled",reason="Conflict",status="True"}"#;
    metrics.bindings([count("Ready", "True", "Associated", 3), count("Ready", "True", "Associated", 4)]);
    assert_eq!((value(&metrics, ready), value(&metrics, stalled)), (Some(7.0), None));
    metrics.bindings([count("Stalled", "True", "Conflict", 1)]);
    assert_eq!((value(&metrics, ready), value(&metrics, stalled)), (None, Some(1.0)));
}

#[test]
fn the_age_of_a_listing_grows_until_the_next_and_the_oldest_view_tells() {
    let metrics = metrics();
    let age = || value(&metrics, "instancerole_list_age_seconds").unwrap();
    metrics.list("111122223333/eu-west-1", 10, Duration::from_secs(90));
    metrics.list("111122223333/us-east-1", 2, Duration::from_secs(5));
    metrics.list_wanted("111122223333/eu-west-1");
    assert!((90.0..95.0).contains(&age()), "{}", age());
    assert_eq!(value(&metrics, "instancerole_list_pages"), Some(12.0));
    metrics.list_dropped("111122223333/eu-west-1");
    assert!((5.0..10.0).contains(&age()), "{}", age());
}

#[test]
fn every_metric_has_a_help_text_and_time_is_in_seconds() {
    let text = used().render().unwrap();
    for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = line.split_once(' ').unwrap();
        assert!(help.len() > 10, "{name}");
        assert!(!name.ends_with("_seconds") || help.to_lowercase().contains("seconds"), "{name}: {help}");
    }
}
