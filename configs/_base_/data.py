"""How images and their objects are loaded, at every scale."""

dataset = dict(type="PreparedDataset")  # where it lies is filled in
load = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
]
load_held_out = [  # of an object's mask only the evaluator knows
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
]
