"""Search-space files: YAML -> a checked `SearchSpace`, or an error with all its problems."""

from orchestrator.space.absolute_paths import relative_backbone
from orchestrator.space.axes import Axis, Case, Choice, Condition, Domain, Fixed, Range
from orchestrator.space.backbone_names import id_part, short_names
from orchestrator.space.dataset_sources import (
    ALL_BITS,
    DEFAULT_TEST_SHARE,
    SOURCES,
    DatasetSection,
)
from orchestrator.space.file import load_space, parse_space, read_mapping
from orchestrator.space.parse_axes import Registry
from orchestrator.space.problems import NO_FILE
from orchestrator.space.pruners import PRUNERS, PrunerSection
from orchestrator.space.reference import KnownKey, known_keys
from orchestrator.space.samplers import SAMPLERS, SamplerSection
from orchestrator.space.search_space import SearchSpace
from orchestrator.space.sections import FinalistsSection, LimitsSection, ResourcesSection
from orchestrator.space.yaml_text import Overrides
from trainable.spec.setting import Value

__all__ = [
    "ALL_BITS",
    "DEFAULT_TEST_SHARE",
    "NO_FILE",
    "PRUNERS",
    "SAMPLERS",
    "SOURCES",
    "Axis",
    "Case",
    "Choice",
    "Condition",
    "DatasetSection",
    "Domain",
    "FinalistsSection",
    "Fixed",
    "KnownKey",
    "LimitsSection",
    "Overrides",
    "PrunerSection",
    "Range",
    "Registry",
    "ResourcesSection",
    "SamplerSection",
    "SearchSpace",
    "Value",
    "id_part",
    "known_keys",
    "load_space",
    "parse_space",
    "read_mapping",
    "relative_backbone",
    "short_names",
]
