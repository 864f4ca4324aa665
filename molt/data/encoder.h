// Encoders from real tokenizers.
#pragma once

#include <string>

#include "molt/data/encode.h"
#include "molt/text/tokenizer.h"

namespace molt::data {

/// An encoder over a tokenizer: special tokens written in a text become their ids, as in the peers; examples start with
/// what the tokenizer's file puts before a text. The fingerprint is a hash of every token, of the ids of a probe text,
/// and of `identity` (what else decides the ids, such as the merges). It renders no chats until given a chat_renderer.
Encoder make_encoder(const text::Tokenizer& tokenizer, const std::string& identity);

/// Renders chats by the template a checkpoint's directory holds; by ChatML, with a warning, where it holds none, or
/// `directory` is empty. The directory is looked into when the first chat comes along: a template that is refused stops
/// no other data.
std::function<std::vector<ChatPiece>(const std::vector<Message>&, bool ask)> chat_renderer(
    const std::string& directory);

/// Loads a tokenizer.json, or a directory with one (or with vocab.json and merges.txt). The files' bytes are the
/// identity; chats are rendered by the template beside them.
Encoder load_encoder(const std::string& path);

}  // namespace molt::data
