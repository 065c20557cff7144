"""GGUF of a small Llama as another program writes it: by the package gguf, of a Hugging Face directory with one
model.safetensors. No rope scaling, biases or tokenizer are written; a Q4_0 file has its embedding in Q8_0."""
import json
import sys

import gguf
import numpy as np

NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm"}
OUTER = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def read_safetensors(path):
    """Yields (name, float32 array)."""
    data = np.memmap(path, np.uint8, "r")
    start = 8 + int(data[:8].view(np.uint64)[0])
    for name, entry in json.loads(bytes(data[8:start])).items():
        if name == "__metadata__":
            continue
        raw = data[start + entry["data_offsets"][0]: start + entry["data_offsets"][1]]
        if entry["dtype"] == "BF16":
            values = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            values = raw.view({"F16": np.float16, "F32": np.float32}[entry["dtype"]]).astype(np.float32)
        yield name, values.reshape(entry["shape"])


def write_gguf(source, kind, path):
    config = json.loads((source / "config.json").read_text())
    heads = config["num_attention_heads"]
    key_heads = config.get("num_key_value_heads", heads)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if config["model_type"] != "llama" or rope.get("rope_type", "default") != "default" or config.get("attention_bias"):
        sys.exit(f"{source}: only a Llama without biases and rope scaling is converted")
    w = gguf.GGUFWriter(path, "llama")
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(heads)
    w.add_head_count_kv(key_heads)
    w.add_rope_dimension_count(config.get("head_dim") or config["hidden_size"] // heads)
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_rope_freq_base(rope.get("rope_theta", config.get("rope_theta", 10000.0)))
    w.add_vocab_size(config["vocab_size"])
    w.add_tokenizer_model("none")
    for name, x in read_safetensors(source / "model.safetensors"):
        to = OUTER.get(name)
        if to is None:
            layer, part = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
            to = f"blk.{layer}.{NAMES[part]}.weight"
        if to == "output.weight" and config.get("tie_word_embeddings"):
            continue
        if ".attn_q." in to or ".attn_k." in to:      # llama.cpp rotates neighbours, not halves
            n = heads if ".attn_q." in to else key_heads
            x = x.reshape(n, 2, x.shape[0] // n // 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape)
        own = "f32" if x.ndim == 1 else "q8_0" if to in ("token_embd.weight", "output.weight") and kind == "q4_0" else kind
        dtype = gguf.GGMLQuantizationType[own.upper()]
        w.add_tensor(to, gguf.quants.quantize(np.ascontiguousarray(x), dtype), raw_dtype=dtype)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
