"""A sandbox for each test, driven by clients that nobody here wrote."""

import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

ROOT = pathlib.Path(__file__).resolve().parents[3]
BINARY = os.environ.get("EC2_SANDBOX_BIN", str(ROOT / "target" / "debug" / "ec2-sandbox"))
ACCOUNT = "123456789012"
REGION = "us-east-1"
INSTANCE = "i-05fab2f28d6c0e8f6"
UNKNOWN = "i-0fedcba9876543210"


class Sandbox:
    def __init__(self, *flags):
        self.process = subprocess.Popen(
            [BINARY, "--listen", "127.0.0.1:0", *flags], stdout=subprocess.PIPE, text=True
        )
        self.url = self.process.stdout.readline().split()[-1]

    def close(self):
        self.process.terminate()
        assert self.process.wait(10) == 0
        self.process.stdout.close()

    def admin(self, method, path, body=None):
        request = urllib.request.Request(
            f"{self.url}/_sandbox/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        try:
            with urllib.request.urlopen(request) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as refused:
            raise AssertionError(json.load(refused)["error"]) from None

    def settings(self, **settings):
        return self.admin("PATCH", "settings", settings)

    def profile(self, name, **more):
        return self.admin("POST", "profiles", {"name": name, **more})["profiles"][0]

    def instance(self, **more):
        seed = {"region": REGION, "ids": [INSTANCE], **more}
        return self.admin("POST", "instances", seed)["associationIds"][0]

    def policy(self, *statements, key=f"AKIA{ACCOUNT}ME"):
        document = {"Version": "2012-10-17", "Statement": list(statements)}
        return self.admin("POST", "policies", {"accessKey": key, "policy": document})

    def advance(self, seconds):
        self.admin("POST", "clock", {"advanceMs": int(seconds * 1000)})

    def timeline(self, instance=INSTANCE):
        return self.admin("GET", f"timeline?instance={instance}")

    def client(self, service, key=f"AKIA{ACCOUNT}ME", region=REGION, token=None, **config):
        config = {"retries": {"total_max_attempts": 1}, "parameter_validation": False, **config}
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=region,
            aws_access_key_id=key,
            aws_secret_access_key="any",
            aws_session_token=token,
            config=Config(**config),
        )

    def aws(self, *words, region=REGION):
        """The `aws` CLI; its output as JSON, or its error text."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "AWS_ACCESS_KEY_ID": f"AKIA{ACCOUNT}ME",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": region,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_MAX_ATTEMPTS": "1",
        }
        done = subprocess.run(
            [sys.executable, "-m", "awscli", *words], capture_output=True, text=True, env=environment
        )
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout else done.stderr


@pytest.fixture
def sandbox():
    # Captured durations, so that a slow machine does not miss a state; `eventually` puts the clock forward.
    running = Sandbox("--realistic", "--set", "read_lag_jitter_ms=0")
    running.profile("app")
    running.profile("other", path="/team/")
    running.profile("empty", roleName=None)
    running.profile("broken", trusted=False)
    yield running
    running.close()


@pytest.fixture
def ec2(sandbox):
    return sandbox.client("ec2")


@pytest.fixture
def iam(sandbox):
    return sandbox.client("iam")


def rows(ec2, **request):
    return ec2.describe_iam_instance_profile_associations(**request)["IamInstanceProfileAssociations"]


def states(ec2):
    """Profile name and state of every row, in no order."""
    return sorted((row["IamInstanceProfile"]["Arn"].split("/")[-1], row["State"]) for row in rows(ec2))


def shown(ec2):
    """State and profile name as DescribeInstances shows them."""
    instance = ec2.describe_instances(InstanceIds=[INSTANCE])["Reservations"][0]["Instances"][0]
    arn = instance.get("IamInstanceProfile", {}).get("Arn")
    return instance["State"]["Name"], arn and arn.split("/")[-1]


def associate(ec2, name="app", instance=INSTANCE, **more):
    request = {"InstanceId": instance, "IamInstanceProfile": {"Name": name}, **more}
    return ec2.associate_iam_instance_profile(**request)["IamInstanceProfileAssociation"]


def replace(ec2, association, name):
    return ec2.replace_iam_instance_profile_association(
        AssociationId=association, IamInstanceProfile={"Name": name}
    )["IamInstanceProfileAssociation"]


def disassociate(ec2, association):
    return ec2.disassociate_iam_instance_profile(AssociationId=association)["IamInstanceProfileAssociation"]


def refused(call, *arguments, **named):
    """Code, message and HTTP status of a refusal."""
    with pytest.raises(ClientError) as raised:
        call(*arguments, **named)
    response = raised.value.response
    assert response["ResponseMetadata"]["RequestId"]
    error = response["Error"]
    return error["Code"], error["Message"], response["ResponseMetadata"]["HTTPStatusCode"]


def eventually(sandbox, look, expected, within=20):
    """Looks until it is as expected, as a client of EC2 has to; the sandbox's clock is put forward meanwhile."""
    end = time.monotonic() + within
    while (seen := look()) != expected:
        assert time.monotonic() < end, f"still {seen}, not {expected}"
        sandbox.advance(2)
