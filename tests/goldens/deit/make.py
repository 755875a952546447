"""DeiT: ViT with a second token, which has learned from a teacher, and two classifiers or one."""

import transformers

from vit.make import CONFIG as VIT
from vit.make import PROCESSOR, case

CONFIG = {**VIT, "model_type": "deit", "hidden_act": "gelu_new", "patch_size": 5, "image_size": 15}
DEIT_PROCESSOR = {
    **PROCESSOR,
    "image_processor_type": "DeiTImageProcessor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": {"height": 18, "width": 18},
    "do_center_crop": True,
    "crop_size": {"height": 15, "width": 15},
}


def make(folder):
    both = "DeiTForImageClassificationWithTeacher"
    case(folder / "with_teacher", {**CONFIG, "architectures": [both]}, getattr(transformers, both), 2, DEIT_PROCESSOR)
    one = "DeiTForImageClassification"
    case(folder / "classifier", {**CONFIG, "architectures": [one]}, getattr(transformers, one), 3, DEIT_PROCESSOR)
