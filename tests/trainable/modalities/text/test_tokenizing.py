from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.builders.text_models import LINES, word_tokenizer
from trainable.backbones.weights import TextPreprocessing
from trainable.errors import BackboneError, DataError
from trainable.modalities.text.tokenizing import TextTokenizer, TokenizedTexts
from trainable.spec.settings import TRUNCATIONS

pytest.importorskip("tokenizers")

CLS, SEP = 2, 3
LONG = " ".join(LINES)


def test_every_way_of_truncating_is_known(words: Any) -> None:
    for truncate in TRUNCATIONS:
        found = tokenize(words, LONG, max_length=10, truncate=truncate)
        assert len(tokens_of(found)) == 10


@pytest.fixture(scope="module")
def words() -> Any:
    return word_tokenizer()


def tokenize(tokenizer: Any, /, *texts: str, **how: Any) -> TokenizedTexts:
    content = tokenizer.to_str().encode()
    preprocessing = TextPreprocessing(
        max_length=64,
        tokenizer=hashlib.sha256(content).hexdigest(),
        pad_id=0,
        pooling="mean",
        normalize=False,
    )
    return TextTokenizer(content, replace(preprocessing, **how)).tokenize(
        [text.encode() for text in texts]
    )


def tokens_of(found: TokenizedTexts, row: int = 0) -> list[int]:
    table = found.table
    return [int(token) for token in table.ids[table.starts[row] : table.starts[row + 1]]]


def words_of(tokenizer: Any, found: TokenizedTexts, row: int = 0) -> str:
    return " ".join(tokenizer.id_to_token(token) for token in tokens_of(found, row))


def test_a_text_becomes_what_its_tokenizer_makes_of_it(words: Any) -> None:
    found = tokenize(words, "Where is my CARD")
    assert tokens_of(found) == words.encode("Where is my CARD").ids
    assert words_of(words, found) == "[CLS] where is my card [SEP]"


def test_texts_are_found_by_the_digest_of_their_bytes(words: Any) -> None:
    found = tokenize(words, *LINES)
    for line in LINES:
        digest = np.frombuffer(hashlib.sha256(line.encode()).digest(), dtype=np.uint8)
        (row,) = found.table.rows(digest[None])
        assert words_of(words, found, row) == f"[CLS] {line} [SEP]"


def test_exact_copies_are_one_row(words: Any) -> None:
    found = tokenize(words, LINES[0], LINES[1], LINES[0])
    assert len(found.table) == len(found.num_tokens) == len(found.unknown_share) == 2


def test_what_the_file_says_of_truncation_and_padding_is_passed_over() -> None:
    tokenizer = word_tokenizer()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=40)
    assert words_of(tokenizer, tokenize(tokenizer, LINES[1])) == f"[CLS] {LINES[1]} [SEP]"


def test_the_head_of_a_long_text_is_kept_with_its_special_tokens(words: Any) -> None:
    found = tokenize(words, LINES[1], LONG, max_length=6)
    assert words_of(words, found, 0) == "[CLS] the cash machine kept [SEP]"
    assert words_of(words, found, 1) == "[CLS] where is my new [SEP]"


def test_a_quarter_of_a_long_text_is_its_head_and_the_rest_its_tail(words: Any) -> None:
    found = tokenize(words, LONG, max_length=10, truncate="head_tail")
    assert words_of(words, found) == "[CLS] where is i be to open an account [SEP]"


def test_the_prompt_stays_whole_when_a_long_text_is_cut(words: Any) -> None:
    found = tokenize(words, LONG, max_length=10, truncate="head_tail", prompt="please open ")
    assert words_of(words, found) == "[CLS] please open where be to open an account [SEP]"


def test_the_prompt_stands_before_every_text(words: Any) -> None:
    found = tokenize(words, LINES[0], LINES[3], prompt="please open ")
    assert words_of(words, found, 0) == f"[CLS] please open {LINES[0]} [SEP]"
    assert words_of(words, found, 1) == f"[CLS] please open {LINES[3]} [SEP]"


def test_a_text_as_long_as_allowed_is_not_cut(words: Any) -> None:
    found = tokenize(words, LINES[0], max_length=7)
    assert words_of(words, found) == f"[CLS] {LINES[0]} [SEP]"
    assert found.truncated.tolist() == [False]


def test_tokens_are_counted_before_any_is_cut_off(words: Any) -> None:
    found = tokenize(words, LINES[0], LONG, max_length=7)
    assert found.num_tokens.tolist() == [7, len(LONG.split()) + 2]
    assert found.truncated.tolist() == [False, True]


def test_the_unknown_share_is_of_the_texts_own_tokens(words: Any) -> None:
    found = tokenize(words, "where is my wallet", "zut alors", LINES[0])
    assert found.unknown_share.tolist() == [0.25, 1.0, 0.0]


def test_a_tokenizer_that_knows_every_byte_has_no_unknown_tokens() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(LINES, trainer)
    found = tokenize(tokenizer, "zut alors 大小")
    assert found.unknown_share.tolist() == [0.0]


def test_a_unigram_tokenizers_unknown_token_is_found_by_its_number() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("card", -1.0)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert tokenize(tokenizer, "card zut").unknown_share.tolist() == [0.5]


def test_a_text_of_which_no_token_is_left_is_one_of_padding() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "card": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    found = tokenize(tokenizer, " ", "card", pad_id=1)
    assert tokens_of(found, 0) == [1]
    assert found.num_tokens.tolist() == [0, 1]
    assert found.unknown_share.tolist() == [1.0, 0.0]


def test_white_space_around_a_text_is_no_part_of_it(words: Any) -> None:
    assert tokens_of(tokenize(words, "  where is my card \n")) == tokens_of(
        tokenize(words, "where is my card")
    )


def test_texts_are_put_in_lower_case_where_the_model_wants_them_so() -> None:
    from tokenizers import normalizers

    tokenizer = word_tokenizer()
    tokenizer.normalizer = normalizers.NFC()
    assert tokenize(tokenizer, "CARD").unknown_share.tolist() == [1.0]
    assert tokenize(tokenizer, "CARD", lowercase=True).unknown_share.tolist() == [0.0]


def test_many_texts_are_tokenised_as_each_alone(words: Any) -> None:
    texts = [f"{LINES[n % 5]} {n}" for n in range(10_000)]
    found = tokenize(words, *texts)
    assert len(found.table) == len(texts)
    for row in (0, 4095, 4096, 9999):
        assert tokens_of(found, row) == words.encode(texts[row]).ids


def test_the_tokenizer_of_other_weights_is_refused(words: Any) -> None:
    with pytest.raises(BackboneError, match="allowed: the one that came with the weights, 0000"):
        tokenize(words, LINES[0], tokenizer="0" * 64)


def test_a_prompt_that_leaves_no_place_for_a_text_is_refused(words: Any) -> None:
    with pytest.raises(BackboneError, match="max_length: got 4; the prompt and 2 special tokens"):
        tokenize(words, LINES[0], max_length=4, prompt="please open ")


def test_a_text_that_is_not_utf_8_is_refused(words: Any) -> None:
    content = words.to_str().encode()
    how = TextPreprocessing(
        max_length=8,
        tokenizer=hashlib.sha256(content).hexdigest(),
        pad_id=0,
        pooling="mean",
        normalize=False,
    )
    with pytest.raises(DataError, match="byte 0xe9 at position 5"):
        TextTokenizer(content, how).tokenize([b"fianc\xe9"])
