"""Sections 1.4, 1.5 and 2: throttling, lost replies, late effects, and the journal that tells of them."""

import time

import pytest
from botocore.exceptions import ClientError, HTTPClientError
from conftest import INSTANCE, REGION, associate, disassociate, eventually, refused, replace, rows, states


def fault(sandbox, effect, **aim):
    return sandbox.admin("POST", "faults", {"effect": effect, **aim})["id"]


def journal(sandbox, action):
    return [entry for entry in sandbox.admin("GET", "journal")["entries"] if entry["action"] == action]


@pytest.mark.parametrize("call,burst", [
    ("describe_iam_instance_profile_associations", 100),
    ("associate_iam_instance_profile", 100),
    ("disassociate_iam_instance_profile", 100),
    ("replace_iam_instance_profile_association", 50),
    ("describe_instances", 50),
])
def test_each_action_has_the_published_bucket(sandbox, ec2, call, burst):
    """DOC 2: Desc 100, Assoc 100, Disas 100, Repl 50, DescribeInstances without filter and paging 50."""
    sandbox.settings(buckets={
        name: {**bucket, "refill": 0.0} for name, bucket in sandbox.admin("GET", "settings")["buckets"].items()
    })
    request = {
        "associate_iam_instance_profile": {"InstanceId": INSTANCE, "IamInstanceProfile": {"Name": "app"}},
        "disassociate_iam_instance_profile": {"AssociationId": "iip-assoc-0fedcba9876543210"},
        "replace_iam_instance_profile_association": {
            "AssociationId": "iip-assoc-0fedcba9876543210", "IamInstanceProfile": {"Name": "app"},
        },
    }.get(call, {})

    def code():
        try:
            getattr(ec2, call)(**request)
        except ClientError as error:
            return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        return "ok", 200

    codes = [code() for _ in range(burst + 1)]
    assert codes[-1] == ("RequestLimitExceeded", 503)
    assert "RequestLimitExceeded" not in [code for code, _ in codes[:-1]]


def test_buckets_refill_at_their_rate_and_are_one_per_region(sandbox, ec2):
    """DOC 2: Assoc 100/5 per account and Region."""
    try_it = lambda client: refused(associate, client)[0]
    bucket = sandbox.admin("GET", "settings")["buckets"]["AssociateIamInstanceProfile"]
    assert bucket == {"capacity": 100.0, "refill": 5.0}
    sandbox.settings(buckets={"AssociateIamInstanceProfile": bucket | {"refill": 0.0}})
    assert {try_it(ec2) for _ in range(100)} == {"InvalidInstanceID.NotFound"}
    assert try_it(ec2) == "RequestLimitExceeded"
    assert try_it(sandbox.client("ec2", region="eu-west-1")) == "InvalidInstanceID.NotFound"
    sandbox.settings(buckets={"AssociateIamInstanceProfile": bucket})
    sandbox.advance(1)
    assert {try_it(ec2) for _ in range(5)} == {"InvalidInstanceID.NotFound"}


def test_a_lost_reply_to_associate_shows_as_incorrect_state_on_the_retry(sandbox, ec2):
    """1.4: the retry returns `IncorrectState`."""
    sandbox.instance()
    fault(sandbox, "lostReply", action="AssociateIamInstanceProfile")
    with pytest.raises(HTTPClientError):
        associate(ec2)
    assert states(ec2) == [("app", "associating")]
    assert refused(associate, ec2)[0] == "IncorrectState"
    first, second = journal(sandbox, "AssociateIamInstanceProfile")
    assert (first["result"], first["delivered"]) == ("ok", False)
    assert (second["result"], second["delivered"]) == ("IncorrectState", True)


def test_a_lost_reply_to_replace_leaves_an_id_that_is_not_active(sandbox, ec2):
    """1.4: the old id is `disassociating` or gone."""
    association = sandbox.instance(profile="app")
    fault(sandbox, "lostReply", action="Replace*", instance=INSTANCE)
    with pytest.raises(HTTPClientError):
        replace(ec2, association, "other")
    assert refused(replace, ec2, association, "other")[0] == "IncorrectState"
    eventually(sandbox, lambda: states(ec2), [("other", "associated")])
    assert refused(replace, ec2, association, "other")[0] == "InvalidAssociationID.NotFound"


def test_a_dropped_call_did_nothing(sandbox, ec2):
    """1.5 network: transient."""
    sandbox.instance()
    fault(sandbox, "drop", action="Associate*")
    with pytest.raises(HTTPClientError):
        associate(ec2)
    assert rows(ec2) == []
    assert journal(sandbox, "AssociateIamInstanceProfile")[0]["result"] == "dropped"
    assert associate(ec2)["State"] == "associating"


@pytest.mark.parametrize("client", ["hang", "drop"])
def test_a_call_may_take_effect_long_after_its_client_gave_up(sandbox, client):
    """1.4 (inferred): a time-out says nothing about the effect."""
    sandbox.instance()
    fault(sandbox, {"late": {"ms": 900, "client": client}}, action="Associate*")
    hasty = sandbox.client("ec2", read_timeout=0.3)
    with pytest.raises(HTTPClientError):
        associate(hasty)
    ec2 = sandbox.client("ec2")
    assert rows(ec2) == []
    eventually(sandbox, lambda: states(ec2), [("app", "associated")])
    entry = journal(sandbox, "AssociateIamInstanceProfile")[0]
    assert entry["result"] == "ok" and not entry["delivered"]
    assert entry["effectMs"] - entry["startedMs"] >= 900


def test_a_hanging_call_is_answered_in_the_end(sandbox, ec2):
    """1.5."""
    fault(sandbox, {"hang": {"ms": 300}})
    begun = time.monotonic()
    assert rows(ec2) == []
    assert time.monotonic() - begun >= 0.3


@pytest.mark.parametrize("code,status", [
    ("InternalError", 500), ("Unavailable", 503), ("OptInRequired", 401), ("IncorrectState", 400),
])
def test_any_error_can_be_ordered_after_some_calls_and_so_many_times(sandbox, ec2, code, status):
    """1.5: every code of the table can be met."""
    effect = {"error": {"code": code, "status": status, "message": "Code=InstanceIdentityProfileNotFound"}}
    fault(sandbox, effect, action="DescribeIam*", skip=1, count=2, caller="*user/ME", region=REGION)
    rows(ec2)
    for _ in range(2):
        assert refused(rows, ec2) == (code, "Code=InstanceIdentityProfileNotFound", status)
    rows(ec2)


def test_pages_may_be_shorter_than_asked(sandbox, ec2):
    """BM 1.2: only the token says where a listing ends."""
    sandbox.admin("POST", "instances", {"region": REGION, "count": 30, "profile": "app"})
    fault(sandbox, {"partialPage": {"rows": 1}}, action="DescribeIam*")
    pages = ec2.get_paginator("describe_iam_instance_profile_associations")
    sizes = [
        len(page["IamInstanceProfileAssociations"])
        for page in pages.paginate(PaginationConfig={"PageSize": 20})
    ]
    assert sizes == [1, 20, 9]


def test_a_read_may_be_stale(sandbox, ec2):
    """DOC 1.4: EC2 is eventually consistent by contract."""
    association = sandbox.instance(profile="app")
    disassociate(ec2, association)
    eventually(sandbox, lambda: rows(ec2), [])
    fault(sandbox, {"staleRead": {"ms": 3_600_000}})
    assert states(ec2) == [("app", "associated")]
    assert rows(ec2) == []


def test_the_journal_tells_who_wrote_what_from_what_to_what(sandbox, ec2):
    """Ours: the journal is what tests assert on."""
    association = sandbox.instance(profile="app")
    replace(ec2, association, "other")
    refused(replace, ec2, association, "app")
    done, denied = journal(sandbox, "ReplaceIamInstanceProfileAssociation")
    profile = "arn:aws:iam::123456789012:instance-profile"
    for entry, came in ((done, "ok"), (denied, "IncorrectState")):
        assert entry["result"] == came
        assert entry["instance"] == INSTANCE
        assert entry["identity"] == "arn:aws:iam::123456789012:user/ME"
        assert (entry["account"], entry["region"], entry["service"]) == ("123456789012", REGION, "ec2")
        assert "Boto3" in entry["userAgent"] and entry["requestId"]
    assert (done["fromProfile"], done["toProfile"]) == (f"{profile}/app", f"{profile}/team/other")
    since = sandbox.admin("GET", f"journal?since={done['seq']}")
    assert [entry["seq"] for entry in since["entries"]] == [denied["seq"]]


def test_a_gap_in_the_guests_credentials_is_told(sandbox, ec2):
    """1.3 guest; 4: the SSM runbook's detach and attach leaves a credential gap."""
    association = sandbox.instance(profile="app")
    disassociate(ec2, association)
    eventually(sandbox, lambda: rows(ec2), [])
    associate(ec2, "other")
    eventually(sandbox, lambda: states(ec2), [("other", "associated")])
    (gap,) = sandbox.timeline()["gaps"]
    assert gap["toMs"] > gap["fromMs"]


def test_an_outsider_can_change_many_instances_at_once(sandbox, ec2):
    """Ours: drift without spending tokens."""
    made = sandbox.admin("POST", "instances", {"region": REGION, "count": 300, "profile": "app"})
    change = {"region": REGION, "instanceIds": made["instanceIds"], "profile": "other"}
    assert sandbox.admin("PATCH", "instances", change) == {"changed": 300}
    assert set(states(ec2)) == {("other", "associated")}
    sandbox.admin("PATCH", "instances", change | {"profile": None})
    assert rows(ec2) == []
