"""A model as its files describe it, before torch is loaded: `config.json`, safetensors headers, shapes of layers."""
