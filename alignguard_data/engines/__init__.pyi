from .concept_check import EmbeddingCheck, JudgeCheck
from .diffusion import DiffusersImageGenerator
from .embedder import ClipTextEmbedder
from .language import LanguageIdentifier
from .model_source import ModelSource
from .sentences import SentenceEmbedder
from .served import ServedModel
from .speed import Speed
from .text import OpenAIWriter, VLLMWriter
from .tokens import TokenCounter

__all__ = [
    "ClipTextEmbedder",
    "DiffusersImageGenerator",
    "EmbeddingCheck",
    "JudgeCheck",
    "LanguageIdentifier",
    "ModelSource",
    "OpenAIWriter",
    "SentenceEmbedder",
    "ServedModel",
    "Speed",
    "TokenCounter",
    "VLLMWriter",
]
