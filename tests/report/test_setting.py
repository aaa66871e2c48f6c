"""The set-up in words, at both scales."""

import json

from fasa.report import setting

CLASSES = [dict(frequency=f, val=n) for f, n in (("r", 3), ("r", 4), ("f", 1000))]
OPTIMIZER = dict(type="AdamW", lr=0.001, classifier=dict(type="SGD", lr=0.002, classifier=None))
JOB = dict(
    own_warmup=False,
    weights=None,
    pretrained="runs/small/pretrain.pth",
    train=dict(iterations=1000, epochs=None, batch=8),
    optimizer=OPTIMIZER,
    configs="small",
)


def test_the_set_up_is_told():
    census = dict(classes=CLASSES, images=dict(train=1500, adapt=20, val=30, tune=40))
    text = setting.text(census, dict(profile="small", seeds=[0, 1], jobs=dict(a=JOB, b=JOB)))
    assert "`small`: 3 classes, 2 rare, 0 common, 1 frequent. Rows train on 1,500 images" in text
    assert "which hold 7 of rare, 0 of common, 1,000 of frequent classes" in text
    assert "goes on from a warm-up that all rows share and trains 1,000 iterations of 8 images" in text
    assert "from pretrained weights (`runs/small/pretrain.pth`), by AdamW (learning rate 0.001)," in text
    assert "its classifier alone by SGD (learning rate 0.002)" in text and "- 2 seeds: " in text
    assert "40 images of `tune`" in text and "Leaky" not in text and "none" not in text.lower()


def test_another_scale_differs():
    job = JOB | dict(own_warmup=True, weights="imagenet", pretrained=None, configs="lvis")
    job |= dict(
        train=dict(iterations=None, epochs=24, batch=16), optimizer=dict(type="SGD", lr=0.02, classifier=None)
    )
    census = dict(classes=CLASSES, images=dict(train=100170, adapt=20, val=30), leaky=True)
    text = setting.text(census, json.loads(json.dumps(dict(profile="lvis", seeds=[0], jobs=dict(a=job)))))
    assert "A row warms up by itself and trains 24 epochs of 16 images" in text and "tune" not in text
    assert "(`imagenet`), by SGD (learning rate 0.02). Models" in text and "- 1 seed: " in text
    assert "- **Leaky**: `adapt` has images of `val`" in text
