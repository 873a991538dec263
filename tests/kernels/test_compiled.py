"""A cold cache is told from a warm one, without compiling."""

from types import SimpleNamespace

from ssmrec.kernels import compiled


def test_cold_until_a_kernel_is_kept(tmp_path, monkeypatch):
    kernel = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path)))
    monkeypatch.setattr(compiled, "_select", SimpleNamespace(__wrapped__=kernel))
    assert compiled.cold()
    (tmp_path / "topk._select-1.py311.nbi").touch()
    assert not compiled.cold()
