from .openai_writer import OpenAIWriter
from .steps import load_instruction
from .vllm_writer import VLLMWriter

__all__ = [
    "OpenAIWriter",
    "VLLMWriter",
    "load_instruction",
]
