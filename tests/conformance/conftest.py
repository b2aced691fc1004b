# PyTorch is in the peers' environment alone.
collect_ignore = ["torch_margins.py", "torch_backbones.py"]
