// Encoders from real tokenizers.
#pragma once

#include <string>

#include "molt/data/encode.h"
#include "molt/text/tokenizer.h"

namespace molt::data {

/// An encoder over a tokenizer: special tokens written in a text become their ids, as in the peers; examples start with
/// what the tokenizer's file puts before a text. The fingerprint is a hash of every token, of the ids of a probe text,
/// and of `identity` (what else decides the ids, such as the merges).
Encoder make_encoder(const text::Tokenizer& tokenizer, const std::string& identity);

/// Loads a tokenizer.json, or a directory with one (or with vocab.json and merges.txt), whose bytes are the identity.
Encoder load_encoder(const std::string& path);

}  // namespace molt::data
