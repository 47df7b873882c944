"""The configuration as text."""

from __future__ import annotations

from tesk.config import Config, describe, load, load_with_sources, to_yaml
from tesk.config.keys import keys

HOME = {"HOME": "/home/ada"}


def test_what_is_shown_can_be_loaded_again_and_means_the_same(tmp_path):
    environ = {
        **HOME,
        "TESK_STORAGE_FILE_ROOTS": '["/a, b: c", "/#d"]',
        "TESK_SERVICE_NAME": "yes",
        "TESK_SERVICE_DESCRIPTION": "a: 'b' # \"c\" ä " + "long " * 100,
        "TESK_LOCAL_CPU_CORES": "0.5",
        "TESK_STORAGE_S3_REGION": "eu",
        "TESK_KUBERNETES_TOLERATIONS": '[{"key": "yes", "tolerationSeconds": 5}]',
        "TESK_KUBERNETES_EXECUTOR_SECRET": '{"name": "a"}',
        "TESK_KUBERNETES_ALLOWED_TOLERATION_PROFILES": '{"x": [{"operator": "Exists"}]}',
        "TESK_KUBERNETES_SECURITY_CONTEXT": "{fsGroup: null, capabilities: {drop: [ALL]}}",
    }
    loaded = load_with_sources(None, environ, directory=tmp_path)
    (tmp_path / "shown.yaml").write_text(to_yaml(loaded))
    assert load(tmp_path / "shown.yaml", HOME) == loaded.config


def test_each_value_is_shown_with_its_meaning_and_its_source(tmp_path):
    shown = to_yaml(load_with_sources(None, {**HOME, "TESK_SERVER_PORT": "9"}, directory=tmp_path))
    assert "  # The port to listen on; 0 takes a free one.\n  port: 9  # $TESK_SERVER_PORT\n" in shown
    assert "  host: 127.0.0.1  # default\n" in shown


def test_a_password_is_not_shown(tmp_path):
    environ = {**HOME, "TESK_STORE_URL": "postgresql://ada:sesame@db:5432/tesk?a=b"}
    shown = to_yaml(load_with_sources(None, environ, directory=tmp_path))
    assert "postgresql://ada:***@db:5432/tesk?a=b" in shown
    assert "sesame" not in shown


def test_the_reference_names_every_key_its_variable_and_its_meaning():
    text = describe()
    for key in keys():
        assert f"| `{key.dotted}`<br>`{key.variable}` |" in text
        assert key.field.description
        assert key.field.description.replace("|", "\\|") in text
    for name in Config.model_fields:
        assert name in text
