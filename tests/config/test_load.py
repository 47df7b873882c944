"""The configuration file and its environment variables."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tesk.backends.kubernetes.options import (
    Allowed,
    FileVolume,
    KubernetesOptions,
    Preemptible,
    Requirements,
    SecretMount,
    Toleration,
)
from tesk.config import Config, ConfigError, Source, changed_keys, load, load_with_sources
from tesk.config.keys import keys
from tesk.config.places import default_state_directory
from tesk.plan.site import MISSING_OUTPUTS, Capacity, Parameter, SharedStorage

HOME = {"HOME": "/home/ada"}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write tesk.yaml and go to its directory."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> Path:
        (tmp_path / "tesk.yaml").write_text(text)
        return tmp_path / "tesk.yaml"

    return write


def faults(environ=HOME, overrides=None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as error:
        load(None, environ, overrides)
    assert str(error.value) == "\n".join(error.value.faults)
    return error.value.faults


def test_no_file_at_all_gives_the_defaults(tmp_path):
    loaded = load_with_sources(None, {**HOME, "TESK_STATE_DIRECTORY": "/s"}, directory=tmp_path)
    assert loaded.config == Config(state_directory=Path("/s"))
    assert loaded.config.server.host == "127.0.0.1"
    assert loaded.config.storage.file_roots == ()
    assert loaded.file is None


def test_later_sources_win_and_each_value_says_where_it_is_from(write):
    write("server:\n  port: 1\n  host: a\n\ntasks:\n  max_attempts: 9\n")
    loaded = load_with_sources(None, {**HOME, "TESK_SERVER_PORT": "2", "TESK_SERVER_HOST": "b"}, {"server.port": 3})
    assert loaded.config.server.port == 3
    assert loaded.config.server.host == "b"
    assert loaded.config.tasks.max_attempts == 9
    assert loaded.sources["server.port"] == "command line"
    assert loaded.sources["server.host"] == "$TESK_SERVER_HOST"
    assert loaded.sources["tasks.max_attempts"] == "tesk.yaml:6"
    assert loaded.sources["tasks.log_bytes"] == "default"
    assert set(loaded.sources) == {key.dotted for key in keys()}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("server:\n  prot: 1", "tesk.yaml:2: unknown key 'prot' in 'server'; did you mean 'port'?"),
        ("servr:\n  port: 1", "tesk.yaml:1: unknown key 'servr'; did you mean 'server'?"),
        ("\nfile_roots: []", "tesk.yaml:2: unknown key 'file_roots'; did you mean 'storage.file_roots'?"),
        (
            "controller:\n  zzz: 1",
            "tesk.yaml:2: unknown key 'zzz' in 'controller'; the keys there are: full_pass_seconds",
        ),
        ("server:\n  port: x", 'tesk.yaml:2: server.port is "x"; give a whole number'),
        ("server:\n  port: 65536", "tesk.yaml:2: server.port is 65536; give at most 65535"),
        ("server:\n  port: true", "tesk.yaml:2: server.port is true; give a whole number"),
        ("server:\n  port:", "tesk.yaml:2: server.port is null; give a whole number"),
        (
            "server:\n  cors_origins: [portal.example.org]",
            'tesk.yaml:2: server.cors_origins is ["portal.example.org"]; give origins such as '
            "https://portal.example.org (in small letters, nothing behind), or '*'",
        ),
        (
            "server:\n  cors_origins: ['https://a.example:443']",
            'tesk.yaml:2: server.cors_origins is ["https://a.example:443"]; leave out the usual port: browsers do',
        ),
        (
            "service:\n  contact_url: me@example.org",
            'tesk.yaml:2: service.contact_url is "me@example.org"; give a URL with http:// or https://'
            " (or mailto: and an address)",
        ),
        (
            "service:\n  created_at: '2026-05-01'",
            'tesk.yaml:2: service.created_at is "2026-05-01"; give a time such as 2026-05-01T09:00:00Z, in quotes',
        ),
        ("server:\n  access_log: 1", "tesk.yaml:2: server.access_log is 1; give true or false"),
        ("local:\n  ram_gb: 0", "tesk.yaml:2: local.ram_gb is 0; give more than 0"),
        ("local:\n  ram_gb: .inf", "tesk.yaml:2: local.ram_gb is Infinity; give a number"),
        (
            "tasks:\n  missing_outputs: wran",
            'tesk.yaml:2: tasks.missing_outputs is "wran"; give one of: fail, warn; did you mean warn?',
        ),
        (
            "service:\n  name: 12",
            "tesk.yaml:2: service.name is 12; give text (in quotes, if it looks like something else)",
        ),
        (
            "storage:\n  file_roots: [data]",
            'tesk.yaml:2: storage.file_roots is ["data"]; give absolute paths',
        ),
        ("storage:\n  file_roots: /data", 'tesk.yaml:2: storage.file_roots is "/data"; give a list'),
        ("state_directory: here", 'tesk.yaml:1: state_directory is "here"; give an absolute path'),
        ("server:\n  port: 1\n  port: 2", "tesk.yaml:3: 'server.port' is set twice; the first is in line 2"),
        ("server: 5", "tesk.yaml:1: 'server' must hold keys, one a line: host, port,"),
        ("[]", "tesk.yaml:1: the file must hold keys, one a line: state_directory,"),
        ("server:\n  port: [1", "tesk.yaml:3: is not YAML: "),
        ("a: \x07", "tesk.yaml: is not YAML: "),
        ("a: !!python/object:os.system x", "tesk.yaml:1: unknown key 'a'"),
        ("service:\n  name: !!python/object:os.system x", "tesk.yaml:2: is not YAML: "),
    ],
)
def test_a_fault_names_file_line_and_what_to_change(write, text, fault):
    write(text)
    (found,) = faults()
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "tolerations: [{kee: a}]",
            'kubernetes.tolerations[0].kee is "a"; nothing of this name belongs there; take it out',
        ),
        (
            "tolerations: [{operator: Exist}]",
            'kubernetes.tolerations[0].operator is "Exist"; give one of: Exists, Equal',
        ),
        ("tolerations: {a: b}", 'kubernetes.tolerations is {"a": "b"}; give a list'),
        ("executor_secret: {mount_path: /x}", 'kubernetes.executor_secret is {"mount_path": "/x"}; it needs \'name\''),
        ("executor_secret: x", 'kubernetes.executor_secret is "x"; give a map, such as {name: value}'),
        ("labels: {a: 1}", "kubernetes.labels.a is 1; give text (in quotes, if it looks like something else)"),
        ("labels: {tesk/x: a}", 'kubernetes.labels is {"tesk/x": "a"}; \'tesk/x\' is set by tesk itself; take it out'),
        ("labels: [a]", 'kubernetes.labels is ["a"]; give a map, such as {name: value}'),
        (
            "node_selector: {a b: x}",
            "kubernetes.node_selector.a b is \"a b\"; 'a b' is not a key of Kubernetes' labels",
        ),
        (
            "filer_resources: {limits: {cpu: ten}}",
            "kubernetes.filer_resources.limits.cpu is \"ten\"; give quantities in quotes, such as '500m' or '64Mi'",
        ),
        ("file_volumes: [{pvc: a, path: b}]", 'kubernetes.file_volumes[0].path is "b"; give absolute paths'),
        (
            "security_context: {runasuser: 5}",
            "kubernetes.security_context is {\"runasuser\": 5}; 'runasuser' is no key of a securityContext; ",
        ),
        ("layout: pods", 'kubernetes.layout is "pods"; give one of: jobs'),
        ("max_active: 0", "kubernetes.max_active is 0; give at least 1"),
        ("run_as_user: -1", "kubernetes.run_as_user is -1; give at least 0"),
        ("namespace: A_b", 'kubernetes.namespace is "A_b"; give the name of a Kubernetes object'),
        (
            "allowed: {toleration_profiles: {spot: [{effect: Never}]}}",
            'kubernetes.allowed.toleration_profiles.spot[0].effect is "Never"; '
            "give one of: NoSchedule, PreferNoSchedule, NoExecute",
        ),
    ],
)
def test_a_fault_in_a_list_or_a_map_names_the_place_in_it(write, text, fault):
    write(f"kubernetes:\n  {text}\n")
    (found,) = faults()
    assert found.startswith(f"tesk.yaml:2: {fault}")


def test_a_cluster_needs_an_image_of_tesk_and_volumes_for_its_file_roots(write):
    assert faults({**HOME, "TESK_BACKEND": "kubernetes"}) == (
        "default: kubernetes.image is empty; name tesk's own image, which taskmasters and filers run in",
    )
    write(
        "backend: kubernetes\nstorage:\n  file_roots: [/a/b, /ab]\n"
        "kubernetes:\n  image: tesk:1\n  file_volumes: [{pvc: x, path: /a}]\n"
    )
    assert faults() == (
        "tesk.yaml:3: storage.file_roots names /ab, which lies in no volume of kubernetes.file_volumes;"
        " filers could not see it",
    )
    assert load(None, {**HOME, "TESK_STORAGE_FILE_ROOTS": "/a/b"}).storage.file_roots == ("/a/b",)


def test_lists_and_maps_of_a_cluster_can_be_variables(tmp_path):
    environ = {
        **HOME,
        "TESK_BACKEND": "kubernetes",
        "TESK_KUBERNETES_IMAGE": "tesk:1",
        "TESK_KUBERNETES_TOLERATIONS": '[{"key": "a", "operator": "Exists", "tolerationSeconds": 5}]',
        "TESK_KUBERNETES_LABELS": "{team: genomes}",
        "TESK_KUBERNETES_TASKMASTER_RESOURCES_REQUESTS": '{"cpu": "5m"}',
        "TESK_KUBERNETES_EXECUTOR_SECRET": '{"name": "licence"}',
        "TESK_KUBERNETES_SCRATCH_GB": "2.5",
        "TESK_KUBERNETES_MAX_RUNTIME": "60",
        "TESK_KUBERNETES_ALLOWED_NODE_SELECTOR_KEYS": "disk, site.org/Zone",
        "TESK_KUBERNETES_ALLOWED_TOLERATION_PROFILES": '{"spot": [{"key": "spot"}]}',
        "TESK_KUBERNETES_PREEMPTIBLE_NODE_SELECTOR": "{machines: spot}",
        "TESK_KUBERNETES_PREEMPTIBLE_TOLERATIONS": '[{"key": "spot"}]',
        "TESK_TASKS_LOG_BYTES": "1000",
    }
    config = load_with_sources(None, environ, directory=tmp_path).config
    found = config.kubernetes_options()
    assert found == KubernetesOptions(
        image="tesk:1",
        instance="",
        tolerations=(Toleration(key="a", operator="Exists", toleration_seconds=5),),
        labels={"team": "genomes"},
        taskmaster_resources=Requirements({"cpu": "5m"}, {"memory": "256Mi"}),
        executor_secret=SecretMount("licence"),
        scratch_bytes=2_500_000_000,
        max_runtime=60,
        allowed=Allowed(("disk", "site.org/Zone"), toleration_profiles={"spot": (Toleration(key="spot"),)}),
        preemptible=Preemptible({"machines": "spot"}, (Toleration(key="spot"),)),
        log_bytes=1000,
    )
    assert config.site(Capacity()).backend_parameters == {
        "missing_outputs": MISSING_OUTPUTS,
        "executor_retries": Parameter("number", least=0, most=10),
        "node_selector.disk": Parameter(name="node_selector.disk"),
        "node_selector.site.org/zone": Parameter(name="node_selector.site.org/Zone"),
        "toleration_profile": Parameter(values=("spot",)),
        "max_runtime": Parameter("number", most=60),
    }


def test_the_defaults_of_a_cluster_are_those_of_its_options(tmp_path):
    config = load_with_sources(None, HOME, directory=tmp_path).config
    assert config.kubernetes_options() == KubernetesOptions(instance="")  # made from the store
    assert set(config.site(Capacity()).backend_parameters) == {"missing_outputs", "executor_retries", "max_runtime"}


def test_each_backend_has_a_longest_run_of_its_own(tmp_path):
    environ = {**HOME, "TESK_LOCAL_MAX_RUNTIME": "60", "TESK_KUBERNETES_MAX_RUNTIME": "70"}
    for backend, most in (("local", 60), ("kubernetes", 70)):
        here = {**environ, "TESK_BACKEND": backend, "TESK_KUBERNETES_IMAGE": "tesk:1"}
        found = load_with_sources(None, here, directory=tmp_path).config.site(Capacity()).backend_parameters
        assert found["max_runtime"] == Parameter("number", most=most)


def test_a_site_says_how_often_tasks_may_have_executors_tried_again(tmp_path):
    def offered(most: str) -> Parameter | None:
        environ = {**HOME, "TESK_TASKS_MAX_EXECUTOR_RETRIES": most}
        config = load_with_sources(None, environ, directory=tmp_path).config
        return config.site(Capacity()).backend_parameters.get("executor_retries")

    assert offered("3") == Parameter("number", least=0, most=3)
    assert offered("0") is None


def test_all_faults_come_at_once_in_the_order_of_the_lines(write):
    write("tasks:\n  log_bytes: x\nsrever:\n  port: 1\nlocal:\n  engine: lxc\n")
    found = faults({**HOME, "TESK_SERVER_PORT": "y"})
    assert [one.split(": ")[0] for one in found] == [
        "tesk.yaml:2",
        "tesk.yaml:3",
        "tesk.yaml:6",
        "$TESK_SERVER_PORT",
    ]


def test_an_empty_section_and_an_empty_file_are_fine(write):
    write("server:\n")
    assert load(None, HOME).server.port == 8000
    write("# nothing\n")
    assert load(None, HOME).server.port == 8000


def test_a_file_that_is_no_text_is_refused_with_its_name(write):
    write("").write_bytes(b"server: \xff")
    assert faults() == ("tesk.yaml: is not UTF-8 text",)


@pytest.mark.parametrize(
    ("variable", "text", "dotted", "value"),
    [
        ("TESK_STORAGE_FILE_ROOTS", "/a, /b/../c,", "storage.file_roots", ("/a", "/c")),
        ("TESK_STORAGE_FILE_ROOTS", '["/a,b"]', "storage.file_roots", ("/a,b",)),
        ("TESK_STORAGE_FILE_ROOTS", "", "storage.file_roots", ()),
        ("TESK_STORAGE_FILE_ROOTS", "~/data", "storage.file_roots", ("/home/ada/data",)),
        ("TESK_STORAGE_S3_ANONYMOUS", "true", "storage.s3.anonymous", True),
        ("TESK_SERVICE_NAME", "12", "service.name", "12"),
        ("TESK_LOCAL_CPU_CORES", "1.5", "local.cpu_cores", 1.5),
        ("TESK_LOCAL_CPU_CORES", "null", "local.cpu_cores", None),
        ("TESK_LOCAL_ENGINE", "podman", "local.engine", "podman"),
        ("TESK_STATE_DIRECTORY", "~/state", "state_directory", Path("/home/ada/state")),
    ],
)
def test_a_variable_gives_the_value_of_its_key(variable, text, dotted, value, tmp_path):
    config = load_with_sources(None, {**HOME, variable: text}, directory=tmp_path).config
    found = config
    for name in dotted.split("."):
        found = getattr(found, name)
    assert found == value


def test_no_two_keys_share_a_variable():
    variables = [key.variable for key in keys()]
    assert len(variables) == len(set(variables))


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("TESK_SERVER_PROT", "did you mean TESK_SERVER_PORT?"),
        ("TESK_SERVER_COLOUR_OF_THE_LOGO", "is ignored"),
        ("TESK_TEST_POSTGRES", None),
        ("TESK_URL", None),
        ("TESK_FTP_PASSWORD", None),
        ("TESK_PORT_8080_TCP_ADDR", None),  # Kubernetes, for a Service called tesk
        ("TESK_SERVICE_PORT_HTTP", None),
        ("TESK_ELSEWHERE", None),
    ],
)
def test_a_variable_that_looks_like_a_key_is_warned_about(name, warning, tmp_path, caplog):
    loaded = load_with_sources(None, {**HOME, name: "1"}, directory=tmp_path)
    if warning is None:
        assert loaded.warnings == ()
    else:
        (found,) = loaded.warnings
        assert name in found
        assert found.endswith(warning)
        with caplog.at_level(logging.WARNING, "tesk.config"):
            load(None, {**HOME, name: "1"})
        assert warning in caplog.text


def test_the_file_is_looked_for_in_order(tmp_path):
    here, home = tmp_path / "here", tmp_path / "home"
    candidates = [
        here / "tesk.yaml",
        tmp_path / "xdg/tesk/tesk.yaml",
    ]
    named = [tmp_path / "option.yaml", tmp_path / "variable.yaml"]
    for port, file in enumerate([*named, *candidates, home / ".config/tesk/tesk.yaml"], start=1):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"server:\n  port: {port}\n")
    environ = {"HOME": str(home), "XDG_CONFIG_HOME": str(tmp_path / "xdg"), "TESK_CONFIG": str(named[1])}

    def port(path=None):
        return load_with_sources(path, environ, directory=here).config.server.port

    assert port(named[0]) == 1
    assert port() == 2
    del environ["TESK_CONFIG"]
    assert port() == 3
    candidates[0].unlink()
    assert port() == 4
    del environ["XDG_CONFIG_HOME"]
    assert port() == 5


def test_a_file_that_somebody_named_must_be_there(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.yaml: there is no such file, although --config names it"):
        load(tmp_path / "no.yaml", HOME)
    with pytest.raises(ConfigError, match=r"\$TESK_CONFIG names it"):
        load(None, {**HOME, "TESK_CONFIG": str(tmp_path / "no.yaml")})


@pytest.mark.parametrize(
    ("environ", "platform", "user", "place"),
    [
        ({"STATE_DIRECTORY": "/var/lib/x:/var/lib/y"}, "linux", 0, "/var/lib/x"),
        ({}, "linux", 0, "/var/lib/tesk"),
        ({}, "linux", 1000, "/home/ada/.local/state/tesk"),
        ({"XDG_STATE_HOME": "/x"}, "linux", 1000, "/x/tesk"),
        ({"XDG_STATE_HOME": "relative"}, "linux", 1000, "/home/ada/.local/state/tesk"),
        ({"XDG_STATE_HOME": "/x"}, "darwin", 501, "/home/ada/Library/Application Support/tesk"),
    ],
)
def test_the_state_directory_follows_the_platform(environ, platform, user, place):
    assert default_state_directory({**HOME, **environ}, platform, user)[0] == Path(place)


def test_the_site_is_what_the_plan_needs(tmp_path):
    environ = {**HOME, "TESK_STORAGE_FILE_ROOTS": "/data//x/", "TESK_TASKS_MISSING_OUTPUTS": "warn"}
    site = load_with_sources(None, environ, directory=tmp_path).config.site(Capacity(cpu_cores=2))
    assert site.file_roots == ("/data/x",)
    assert site.missing_outputs == "warn"
    assert site.unknown_fields == "warn"
    assert site.capacity.cpu_cores == 2


def test_the_store_is_a_file_in_the_state_directory_unless_named(tmp_path):
    assert Config(state_directory=tmp_path).store_place == tmp_path / "tesk.db"
    environ = {**HOME, "TESK_STORE_URL": "postgresql://h/d"}
    assert load_with_sources(None, environ, directory=tmp_path).config.store_place == "postgresql://h/d"


def test_storage_gets_the_sites_limits_and_the_credentials_of_aws(tmp_path):
    environ = {
        **HOME,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-west-1",
        "TESK_STORAGE_FILE_ROOTS": "/data",
        "TESK_STORAGE_ATTEMPTS": "1",
        "TESK_STORAGE_PARALLEL": "2",
        "TESK_STORAGE_S3_ENDPOINT_URL": "http://s3.lab",
    }
    options = load_with_sources(None, environ, directory=tmp_path).config.storage_options(environ)
    assert options.file_roots == ("/data",)
    assert (options.retries, options.parallelism, options.stall_timeout) == (0, 2, 60.0)
    assert (options.s3.endpoint, options.s3.region, options.s3.access_key_id) == ("http://s3.lab", "eu-west-1", "key")
    environ["TESK_STORAGE_S3_ANONYMOUS"] = "true"
    anonymous = load_with_sources(None, environ, directory=tmp_path).config.storage_options(environ).s3
    assert (anonymous.access_key_id, anonymous.ambient, anonymous.region) == (None, False, "eu-west-1")


def test_an_aws_profile_that_is_not_there_is_a_fault_of_the_configuration(tmp_path):
    config = load_with_sources(None, HOME, directory=tmp_path).config
    with pytest.raises(ConfigError, match="AWS_PROFILE is 'no'"):
        config.storage_options({"HOME": str(tmp_path), "AWS_PROFILE": "no"})


@pytest.mark.parametrize(
    "origin", ["*", "https://portal.example.org", "http://localhost:3000", "http://[::1]:8080", "http://127.0.0.1"]
)
def test_origins_are_taken_as_browsers_send_them(tmp_path, origin):
    environ = {**HOME, "TESK_SERVER_CORS_ORIGINS": origin}
    assert load_with_sources(None, environ, directory=tmp_path).config.server.cors_origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    ["https://a.example/", "HTTPS://a.example", "https://A.example", "null", "https://*.a.example", "ftp://a", ""],
)
def test_an_origin_that_no_browser_sends_is_refused(write, origin):
    write(f"server: {{cors_origins: ['{origin}']}}")
    assert "server.cors_origins" in faults()[0]


def test_a_port_that_is_none_is_refused_as_an_origin(write):
    write("server: {cors_origins: ['http://a.example:99999']}")
    assert "server.cors_origins" in faults()[0]


def test_a_source_is_read_anew_each_time_and_the_keys_that_changed_are_known(write):
    write("service: {name: one}\ntasks: {max_attempts: 1}")
    source = Source(None, {**HOME, "TESK_TASKS_MAX_ATTEMPTS": "5"}, {"server.port": 1})
    first = source.load().config
    write("service: {name: two}\ntasks: {max_attempts: 2}\nserver: {port: 2}\nstorage: {file_roots: [/a]}")
    changed = changed_keys(first, source.load().config)
    assert [key.dotted for key in changed] == ["service.name", "storage.file_roots"]
    assert changed_keys(first, first) == []


def test_the_configuration_of_a_cluster_does_not_load_its_api_library():
    code = (
        "import sys; from tesk.config import load; load(None, {'HOME': '/', 'TESK_BACKEND': 'kubernetes',"
        " 'TESK_KUBERNETES_IMAGE': 'x'}).kubernetes_options(); sys.exit('lightkube' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SHARED = """
storage:
  shared:
    - {name: work, pvc: workflows, directory: /mnt/work, client_path: /data/, task_path: /data}
    - {name: genomes, pvc: genomes, directory: /mnt/ref, client_path: /ref, read_only: true}
"""


def test_shared_storage_is_one_of_the_roots_of_files(write):
    write(SHARED)
    config = load(None, HOME)
    assert config.site(Capacity()).shared == (
        SharedStorage("work", "/data"),
        SharedStorage("genomes", "/ref", read_only=True),
    )
    assert config.storage_settings.shared_roots == {"work": Path("/mnt/work"), "genomes": Path("/mnt/ref")}


def test_on_a_cluster_pods_have_it_where_urls_name_it(write):
    write(SHARED + "  file_roots: [/data/in]\nbackend: kubernetes\nkubernetes: {image: tesk:1}\n")
    config = load(None, HOME)
    assert config.storage_settings.shared_roots == {"work": Path("/data"), "genomes": Path("/ref")}
    assert config.kubernetes_options().file_volumes == (
        FileVolume("workflows", "/data", name="work"),
        FileVolume("genomes", "/ref", read_only=True, name="genomes"),
    )


@pytest.mark.parametrize(
    ("text", "environ", "client", "task"),
    [
        ("transfer: {active: true, pvc_name: p, wes_base_path: /wes, tes_base_path: /tes}", {}, "/wes", "/tes"),
        ("transfer: {pvc_name: p}", {}, "/data", "/data"),
        ("", {"TRANSFER_PVC_NAME": "p"}, "/data", "/data"),
        ("", {"TRANSFER_PVC_NAME": "p", "TES_BASE_PATH": "/tes/"}, "/tes", "/tes"),
        ("", {"TRANSFER_PVC_NAME": "p", "HOST_BASE_PATH": "/h", "CONTAINER_BASE_PATH": "/c"}, "/h", "/c"),
        ("transfer: {pvc_name: x}", {"TRANSFER_PVC_NAME": "p"}, "/data", "/data"),
    ],
)
def test_tesks_old_names_mean_what_they_meant(write, text, environ, client, task):
    write(f"backend: kubernetes\nkubernetes: {{image: tesk:1}}\n{text}\n")
    (shared,) = load(None, {**HOME, **environ}).shared.values()
    assert (shared.name, shared.pvc, shared.client_path, shared.task_path) == ("transfer", "p", client, task)


@pytest.mark.parametrize("text", ["", "transfer: {active: false, pvc_name: p}"])
def test_nothing_is_shared_unless_it_is_said(write, text):
    write(text)
    assert load(None, HOME).shared == {}


@pytest.mark.parametrize(
    ("shared", "fault"),
    [
        ("{name: a, client_path: /a}", "has no directory, where it lies on this machine"),
        ("{name: a, directory: /x, client_path: /}", "has the client_path '/'"),
        ("{name: a, directory: /x, client_path: a}", "give absolute paths"),
        (
            "{name: a, directory: /x, client_path: /a}, {name: b, directory: /y, client_path: /a/b}",
            "has the client_path /a/b, and storage.shared[0] has /a; none may lie in another",
        ),
        (
            "{name: a, directory: /x, client_path: /a}, {name: a, directory: /y, client_path: /b}",
            "has the name 'a', and so has storage.shared[0]",
        ),
    ],
)
def test_what_cannot_be_shared_is_told(write, shared, fault):
    write(f"storage:\n  shared: [{shared}]\n")
    assert any(fault in one for one in faults()), faults()


def test_on_a_cluster_a_claim_is_needed(write):
    write("backend: kubernetes\nkubernetes: {image: x}\nstorage:\n  shared: [{name: a, client_path: /a}]\n")
    assert any("has no pvc, the PersistentVolumeClaim" in one for one in faults())
    write("backend: kubernetes\nkubernetes: {image: x}\ntransfer: {active: true}\n")
    assert any("transfer.pvc_name" in one and "has no pvc" in one for one in faults())
