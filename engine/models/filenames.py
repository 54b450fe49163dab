"""Names of the files that published weights come in; apart from ``statedict``, so that no networks are imported."""

#: File names of a component's weights as diffusers and transformers have written them, the safe ones first.
FILES = (
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
)
