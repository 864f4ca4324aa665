// What text is generated from: prompts given as they are, read from a file, or turns of a chat.
#pragma once

#include <string>
#include <vector>

#include "molt/data/encode.h"

namespace molt::app {

/// A prompt as it is.
data::Example plain_question(const std::string& prompt, const std::string& where);

/// A conversation in which the assistant is to speak next.
data::Example chat_question(std::vector<data::Message> turns, const std::string& where);

/// The questions in a file: one per line of text (blank lines skipped), or one per record of .jsonl, .json, .csv or
/// .tsv. A record with `messages` (or `conversations`) asks for the assistant's last turn, or for the one after the
/// last; else the prompt is `prompt_template` filled in, "{prompt}" where that is empty. Throws UsageError at the
/// record's place.
std::vector<data::Example> read_questions(const std::string& path, const std::string& prompt_template);

/// The adapter that each question of such a file asks for with its field "adapter" (text, or null: none), "" where a
/// record has no such field; in the order of read_questions(). Throws UsageError at the record's place.
std::vector<std::string> read_question_adapters(const std::string& path, size_t questions);

/// The tokens the model is asked from. Throws UsageError for a question without any.
std::vector<int32_t> question_ids(const data::Example& question, const data::Encoder& encoder);

}  // namespace molt::app
