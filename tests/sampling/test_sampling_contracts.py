from quire.engine.request import SamplingParams
from quire.interfaces import LogitsProcessor, Sampler
from quire.testing import LogitsProcessorSuite, SamplerSuite
from quire_plugins.logits_processors.allowed_tokens import AllowedTokens, AllowedTokensConfig
from quire_plugins.logits_processors.bad_tokens import BadTokens, BadTokensConfig
from quire_plugins.logits_processors.logit_bias import LogitBias, LogitBiasConfig
from quire_plugins.logits_processors.min_tokens import MinTokens, MinTokensConfig
from quire_plugins.logits_processors.penalties import Penalties, PenaltiesConfig
from quire_plugins.samplers.gumbel import GumbelSampler, GumbelSamplerConfig
from quire_plugins.samplers.standard import StandardSampler, StandardSamplerConfig


class TestStandardSampler(SamplerSuite):
    def make(self) -> Sampler:
        return StandardSampler(config=StandardSamplerConfig())


class TestGumbelSampler(SamplerSuite):
    def make(self) -> Sampler:
        return GumbelSampler(config=GumbelSamplerConfig())


class TestAllowedTokens(LogitsProcessorSuite):
    wanted = (SamplingParams(allowed_token_ids=(3,)), SamplingParams(allowed_token_ids=(0, 5, 30)))

    def make(self) -> LogitsProcessor:
        return AllowedTokens(config=AllowedTokensConfig())


class TestBadTokens(LogitsProcessorSuite):
    wanted = (SamplingParams(bad_token_ids=(3,)), SamplingParams(bad_token_ids=(0, 5, 30)))

    def make(self) -> LogitsProcessor:
        return BadTokens(config=BadTokensConfig())


class TestLogitBias(LogitsProcessorSuite):
    wanted = (SamplingParams(logit_bias={3: 1.5}), SamplingParams(logit_bias={0: -2.0, 30: 0.25}))

    def make(self) -> LogitsProcessor:
        return LogitBias(config=LogitBiasConfig())


class TestMinTokens(LogitsProcessorSuite):
    wanted = (SamplingParams(min_tokens=3), SamplingParams(min_tokens=20, stop_token_ids=(1, 2)))

    def make(self) -> LogitsProcessor:
        return MinTokens(config=MinTokensConfig())


class TestPenalties(LogitsProcessorSuite):
    wanted = (
        SamplingParams(repetition_penalty=1.3),
        SamplingParams(presence_penalty=0.5),
        SamplingParams(frequency_penalty=-0.7, repetition_penalty=0.8),
    )

    def make(self) -> LogitsProcessor:
        return Penalties(config=PenaltiesConfig())
