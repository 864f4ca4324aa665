// Whatever a user gets wrong: one line on standard error that says what and where, exit code 2 (1 where the machine
// refuses), nothing on standard output, and no file or directory left behind.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "tests/cli/bad_input_list.h"
#include "tests/cli/run.h"

namespace molt::test {

const std::vector<BadInputKind>& bad_inputs() {
  static const std::vector<BadInputKind> kinds = {
      {"The command line",
       {
           {"NoVerb", "", "", "molt --help"},
           {"UnknownVerb", "", "trian @/good.yaml", "train"},
           {"UnknownOption", "", "train @/good.yaml --resum", "--resum"},
           {"OptionWithoutValue", "", "generate --model", "--model"},
           {"OptionOfWrongType", "", "generate --model @/base --prompt x --temperature warm", "--temperature"},
           {"TrainWithoutRecipe", "", "train", "recipe is required"},
           {"LineBreakInAName", "", "train \"$(printf 'a\\nb.yaml')\"", "b.yaml"},
           {"OptionTwice", "", "generate --model @/base --prompt x --prompt y", "more than once"},
       }},
      {"Recipes",
       {
           {"RecipeMissing", "", "train @/nowhere.yaml", "nowhere.yaml"},
           {"RecipeIsADirectory", "", "train @/base", "base"},
           {"RecipeIsNotYaml", "printf 'model: [base\\nmethod: lora\\n' > bad.yaml", "train @/bad.yaml", "bad.yaml:"},
           {"RecipeIsAList", "echo '- model' > bad.yaml", "train @/bad.yaml", "keys and values"},
           {"RecipeIsBinary", "head -c 300 base/model.safetensors > bad.yaml", "train @/bad.yaml", "bad.yaml"},
           {"UnknownKey", "", "train @/good.yaml learnin_rate=1", "learning_rate"},
           {"UnknownKeyBelow", "", "train @/good.yaml data.trian=x", "train"},
           {"WrongType", "", "train @/good.yaml max_steps=many", "whole number"},
           {"OverrideWithoutValue", "", "train @/good.yaml max_steps", "key=value"},
           {"NoModel", "echo 'method: lora' > bad.yaml", "train @/bad.yaml", "model is missing"},
           {"NoMethod", "grep -v method good.yaml > bad.yaml", "train @/bad.yaml", "method"},
           {"UnknownMethod", "", "train @/good.yaml method=lara", "lora"},
           {"UnknownMethodOption", "", "train @/good.yaml method.lora.rank=3", "rank"},
           {"RankZero", "", "train @/good.yaml method.lora.r=0", "r"},
           {"TargetMatchesNothing", "", "train @/good.yaml method.lora.target_modules=[inproj]", "in_proj"},
           {"UnknownSlice", "", "train @/good.yaml method.lora.target_modules=[x_proj:Q]", "x_proj:"},
           {"RankPatternMatchesNothing", "", "train @/good.yaml method.lora.rank_pattern.inproj=4", "in_proj"},
           {"AlphaPatternIsNone", "", "train @/good.yaml 'method.lora.alpha_pattern.(in_proj=4'", "regular expression"},
           {"ComputeUnknown", "", "train @/good.yaml compute=fp8", "bf16"},
           {"ComputeInt8OnAnotherBase", "", "train @/good.yaml compute=int8 base_dtype=bf16", "base_dtype"},
           {"SaveDtypeUnknown", "", "train @/good.yaml save_dtype=f64", "save_dtype"},
           {"NegativeThreads", "", "train @/good.yaml threads=-1", "threads"},
           {"ThreadsBeyondReason", "", "train @/good.yaml threads=1000000", "at most"},
           {"RateIsNotANumber", "", "train @/good.yaml learning_rate=.nan", "finite number"},
           {"AlphaIsInfinite", "", "train @/good.yaml method.lora.lora_alpha=.inf", "finite number"},
           {"RankBeyondReason", "", "train @/good.yaml method.lora.r=9223372036854775807", "at most"},
           {"TextThatIsNotUtf8", "", "train @/good.yaml \"tokenizer=$(printf 't\\377')\"", "UTF-8"},
           {"RecipeThatIsNotUtf8", "printf 'model: b\\377se\\n' > bad.yaml", "train @/bad.yaml", "UTF-8"},
           {"ScheduleThatDoesNotFit", "", "train @/good.yaml lr_scheduler_type=wsd decay_steps=100", "do not fit"},
           {"TargetTrainedTwice", "", "train @/good.yaml 'method=[lora, lora]'", "trained by two methods"},
           {"VariantWithAPlaceOfItsOwn", "", "compare @/good.yaml 'compare=[{name: a, method: lora, output_dir: x}]'",
            "output_dir"},
           {"VariantThatCannotTrain", "",
            "compare @/good.yaml 'compare=[{name: a, method: lora}, {name: b, method: {lora: {target_modules: "
            "[inproj]}}}]'",
            "b: target"},
           {"VariantThatTrainsTwice", "",
            "compare @/good.yaml 'compare=[{name: a, method: lora}, {name: b, method: [lora, lora]}]'", "b: method"},
           {"NoVariants", "", "compare @/good.yaml 'compare=[]'", "at least one variant"},
           {"ScratchBeyondMemory", "grep -v '^model' good.yaml > bad.yaml",
            "train @/bad.yaml 'from_scratch={d_model: 65536, layers: 64}' tokenizer=@/tok method=full",
            "make it smaller"},
           {"AlphaZero", "", "train @/good.yaml 'method={lora: {lora_alpha: 0}}'", "lora_alpha"},
           {"TrainOfAComparison", "(cat good.yaml; echo 'compare: [{name: a, method: lora}]') > bad.yaml",
            "train @/bad.yaml", "molt compare"},
           {"EvalOfAComparison", "(cat good.yaml; echo 'compare: [{name: a, method: lora}]') > bad.yaml",
            "eval @/bad.yaml", "molt compare"},
           {"TrainOfASearch", "", "train @/search.yaml", "molt search"},
           {"NegativeLearningRate", "", "train @/good.yaml learning_rate=-1", "learning_rate"},
           {"ScheduleUnknown", "", "train @/good.yaml lr_scheduler_type=zigzag", "lr_scheduler_type"},
           {"MetricUnknown", "", "train @/good.yaml evaluation.metric=bleu", "exact_match"},
           {"LimitZero", "", "train @/good.yaml evaluation.limit=0", "evaluation.limit"},
           {"BeamsThatSampleInARecipe", "",
            "train @/good.yaml evaluation.generate.num_beams=2 evaluation.generate.temperature=1", "beams"},
           {"TwoMethodsWithPhases", "",
            "train @/good.yaml 'method=[{sdt: {freeze_channels: 0.5}}, {sdt: {freeze_channels: 0.5}}]'", "phases"},
           {"ModelAndScratch", "", "train @/good.yaml from_scratch.d_model=8 from_scratch.layers=1", "from_scratch"},
           {"ScratchWithAnAdapter", "sed 's/^model.*/from_scratch: {d_model: 8, layers: 1}/' good.yaml > bad.yaml",
            "train @/bad.yaml tokenizer=@/tok", "must train"},
           {"TooFewStepsForAMethod", "", "train @/good.yaml 'method={adalora: {tinit: 5}}'", "tinit"},
           {"TwoDocuments", "(cat good.yaml; echo ---; echo 'max_steps: 4') > bad.yaml", "train @/bad.yaml", "second"},
           {"FamilyUnknown",
            "sed 's/^model.*/from_scratch: {family: rwkv, d_model: 8, layers: 1}/' good.yaml > bad.yaml",
            "train @/bad.yaml tokenizer=@/tok", "rwkv"},
       }},
      {"Models",
       {
           {"ModelMissing", "", "train @/good.yaml model=@/nowhere", "nowhere"},
           {"ModelIsAHubName", "", "train @/good.yaml model=state-spaces/mamba-130m", "state-spaces/mamba-130m"},
           {"ModelIsAFile", "", "train @/good.yaml model=@/base/config.json", "config.json"},
           {"ModelWithoutConfig", "cp -r base m && rm m/config.json", "train @/good.yaml model=@/m", "config.json"},
           {"ModelConfigMalformed", "cp -r base m && echo '{' > m/config.json", "train @/good.yaml model=@/m",
            "config.json"},
           {"ModelTypeUnknown", "cp -r base m && sed -i 's/\"mamba\"/\"gpt2\"/' m/config.json",
            "train @/good.yaml model=@/m", "gpt2"},
           {"ModelOfOtherShapes", "cp -r base m && sed -i 's/\"hidden_size\": 16/\"hidden_size\": 24/' m/config.json",
            "train @/good.yaml model=@/m", "asks for"},
           {"ModelConfigOfWrongType",
            "cp -r base m && sed -i 's/\"hidden_size\": 16/\"hidden_size\": \"wide\"/' m/config.json",
            "train @/good.yaml model=@/m", "hidden_size"},
           {"ModelWithoutWeights", "cp -r base m && rm m/model.safetensors", "train @/good.yaml model=@/m",
            "model.safetensors"},
           {"WeightsCutShort", "cp -r base m && truncate -s 2000 m/model.safetensors", "train @/good.yaml model=@/m",
            "model.safetensors"},
           {"WeightsEmpty", "cp -r base m && : > m/model.safetensors", "train @/good.yaml model=@/m",
            "model.safetensors"},
           {"WeightsAreAPipe", "cp -r base m && rm m/model.safetensors && mkfifo m/model.safetensors",
            "train @/good.yaml model=@/m", "holds no model"},
           {"WeightsAreText", "cp -r base m && cp good.yaml m/model.safetensors", "train @/good.yaml model=@/m",
            "model.safetensors"},
           {"PickleThatCallsAFunction",
            "cp -r base m && rm m/model.safetensors && cp \"$GOLDEN/torch_bin/bad/calls_a_function.bin\" "
            "m/pytorch_model.bin",
            "train @/good.yaml model=@/m", "pytorch_model.bin"},
       }},
      {"Tokenizers",
       {
           {"TokenizerMissing", "cp -r base m && rm m/tokenizer.json", "train @/good.yaml model=@/m", "tokenizer.json"},
           {"TokenizerNamedIsMissing", "", "train @/good.yaml tokenizer=@/nowhere", "nowhere"},
           {"TokenizerMalformed", "cp -r base m && echo '{\"model\": 3}' > m/tokenizer.json",
            "train @/good.yaml model=@/m", "tokenizer.json"},
           {"TokenizerOfAnotherModel", "", "train @/good.yaml tokenizer=@/bigtok", "rows"},
       }},
      {"Data",
       {
           {"DataMissing", "", "train @/good.yaml data.train=@/nowhere.jsonl", "nowhere.jsonl"},
           {"DataNotGiven", "", "train @/good.yaml data.train=", "data"},
           {"DataEmpty", ": > d.jsonl", "train @/good.yaml data.train=@/d.jsonl", "d.jsonl"},
           {"DataWithoutTheField", "", "train @/good.yaml 'data.prompt=\"{question}\"'", "data.jsonl:1"},
           {"TemplateBroken", "", "train @/good.yaml 'data.prompt=\"{prompt\"'", "data.prompt"},
           {"TemplateWithoutField", "", "train @/good.yaml data.prompt=prompt", "data.prompt"},
           {"LineIsNotJson", "echo 'no json' >> data.jsonl", "train @/good.yaml", "data.jsonl:5"},
           {"LineIsNotUtf8", "printf '{\"prompt\": \"\\377\", \"completion\": \"x\"}\\n' > d.jsonl",
            "train @/good.yaml data.train=@/d.jsonl", "d.jsonl:1"},
           {"RowsOfDifferentWidth", "printf 'prompt,completion\\na,b\\nc\\n' > d.csv",
            "train @/good.yaml data.train=@/d.csv", "d.csv:3"},
           {"FormatUnknown", "cp data.jsonl d.parquet", "train @/good.yaml data.train=@/d.parquet", "d.parquet"},
           {"ExampleTooLong", "", "train @/good.yaml data.max_length=3", "data.jsonl:1"},
           {"ClassThatIsNoLabel", "",
            "train @/good.yaml data.test=@/data.jsonl 'data.labels=[\" three\", \" six\"]' evaluation.metric=accuracy",
            "data.jsonl:3"},
           {"RoleMisspelt",
            "echo '{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"Assistant\", "
            "\"content\": \"ho\"}]}' > chat.jsonl",
            "train @/good.yaml data.train=@/chat.jsonl", "Assistant"},
           {"SeparatorForChats", "echo '{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}' > chat.jsonl",
            "train @/good.yaml data.train=@/chat.jsonl 'data.separator=#'", "data.separator"},
           {"EndOfTextForChats", "echo '{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}' > chat.jsonl",
            "train @/good.yaml data.train=@/chat.jsonl data.append_eos=false", "data.append_eos"},
           {"ChatThatCallsFunctions",
            "echo '{\"messages\": [{\"role\": \"assistant\", \"content\": \"hi\", \"tool_calls\": [{\"id\": 1}]}]}' > "
            "chat.jsonl",
            "train @/good.yaml data.train=@/chat.jsonl", "tool_calls"},
           {"ChatWithTools",
            "echo '{\"tools\": [{\"name\": \"f\"}], \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}' > "
            "chat.jsonl",
            "train @/good.yaml data.train=@/chat.jsonl", "tools"},
           {"LengthOfPlainText", "", "train @/good.yaml data.train=@/text.txt data.max_length=5", "segment_length"},
           {"TemplateForPlainText", "", "train @/good.yaml data.train=@/text.txt 'data.prompt={x}'", "data.prompt"},
           {"AnswersToTextAfterTraining", "",
            "train @/good.yaml data.train=@/text.txt data.test=@/text.txt data.cache_dir=$CACHE "
            "evaluation.metric=exact_match",
            "plain text"},
           {"SplitOfOneExample", "head -1 data.jsonl > d.jsonl",
            "train @/good.yaml data.train=@/d.jsonl data.validation_split=0.5", "validation_split"},
           {"ValidationTextMissing", "",
            "train @/good.yaml data.train=@/text.txt data.validation=@/nowhere.txt data.cache_dir=$CACHE",
            "nowhere.txt"},
       }},
      {"Run directories",
       {
           {"OutputHoldsARun", "", "train @/good.yaml output_dir=@/run", "--resume"},
           {"OutputHoldsOtherThings", "", "train @/good.yaml output_dir=@/tok", "tok"},
           {"OutputIsAFile", "", "train @/good.yaml output_dir=@/data.jsonl", "data.jsonl"},
           {"OutputCannotBeMade", "", "train @/good.yaml output_dir=/proc/molt/run", "/proc/molt", 1},
           {"ResumeWithAnotherRecipe", "", "train @/good.yaml output_dir=@/run learning_rate=0.5 --resume",
            "learning_rate"},
           {"ResumeOfSomethingElse", "", "train @/good.yaml output_dir=@/tok --resume", "tok"},
       }},
      {"Adapters",
       {
           {"AdapterMissing", "", "generate --model @/base --adapter @/nowhere --prompt x", "nowhere"},
           {"AdapterHalfWritten", "cp -r run/adapter a && rm a/adapter_config.json",
            "generate --model @/base --adapter @/a --prompt x", "adapter_config.json"},
           {"AdapterCutShort", "cp -r run/adapter a && truncate -s 100 a/adapter_model.safetensors",
            "generate --model @/base --adapter @/a --prompt x", "adapter_model.safetensors"},
           {"AdapterOfAnotherBase", "", "generate --model @/other --adapter @/run/adapter --prompt x", "another base"},
           {"AdapterOfAnUnknownKind",
            "cp -r run/adapter a && rm a/molt.json && sed -i 's/LORA/XLORA/' a/adapter_config.json",
            "generate --model @/base --adapter @/a --prompt x", "XLORA"},
           {"AdapterOnEmbeddings", "",
            "merge --model $GOLDEN/mamba/tied_small/checkpoint --adapter "
            "$GOLDEN/mamba/tied_small/lora_embeddings/adapter --out @/new",
            "embeddings"},
           {"AdapterWithoutTensors", "cp -r run/adapter a && rm a/adapter_model.safetensors",
            "generate --model @/base --adapter @/a --prompt x", "adapter_model.safetensors"},
           {"AdapterOfEmptyName", "", "generate --model @/base --adapter '' --prompt x", "--adapter"},
           {"AdapterOfEmptyNameToEval", "", "eval --model @/base --adapter '' --data @/data.jsonl", "--adapter"},
           {"AdapterNameTwice", "",
            "generate --model @/base --adapter a=@/run/adapter --adapter a=@/run/adapter --prompt x",
            "two are called 'a'"},
           {"SecondAdapterWithoutName", "",
            "generate --model @/base --adapter a=@/run/adapter --adapter @/run/adapter --prompt x", "give each a name"},
           {"AdapterWeightIsNoNumber", "", "generate --model @/base --adapter @/run/adapter:half --prompt x", ":half"},
           {"AdapterWeightIsNotFinite", "", "generate --model @/base --adapter @/run/adapter:nan --prompt x",
            "finite weight"},
           {"SumWithAMissingAdapter", "", "eval --model @/base --adapter @/run/adapter+@/nowhere --data @/data.jsonl",
            "nowhere"},
           {"UseOfAnUnknownName", "", "generate --model @/base --adapter a=@/run/adapter --use b --prompt x",
            "there is a"},
           {"UseOfANameWhereNoneIs", "", "generate --model @/base --adapter @/run/adapter --use b --prompt x",
            "--adapter b=DIR"},
           {"UseWithoutAdapter", "", "generate --model @/base --use b --prompt x", "none was given"},
           {"PromptForAnUnknownAdapter", "echo '{\"prompt\": \"x\", \"adapter\": \"b\"}' > p.jsonl",
            "generate --model @/base --adapter a=@/run/adapter --prompts @/p.jsonl", "p.jsonl:1"},
           {"PromptWhoseAdapterIsNoName", "echo '{\"prompt\": \"x\", \"adapter\": 3}' > p.jsonl",
            "generate --model @/base --adapter a=@/run/adapter --prompts @/p.jsonl", "p.jsonl:1"},
       }},
      {"Generating",
       {
           {"NothingToGenerateFrom", "", "generate --model @/base", "--prompt"},
           {"GenerateWithoutModel", "", "generate --prompt x", "--model"},
           {"PromptEmpty", "", "generate --model @/base --prompt ''", "--prompt"},
           {"PromptIsNotUtf8", "", "generate --model @/base --prompt \"$(printf 'a\\377b')\"", "UTF-8"},
           {"PromptsMissing", "", "generate --model @/base --prompts @/nowhere.txt", "nowhere.txt"},
           {"PromptsEmpty", ": > p.txt", "generate --model @/base --prompts @/p.txt", "p.txt"},
           {"PromptsWithoutTheField", "echo '{\"q\": 1}' > p.jsonl", "generate --model @/base --prompts @/p.jsonl",
            "p.jsonl:1"},
           {"BeamsThatSample", "", "generate --model @/base --prompt x --num-beams 2 --temperature 1", "beams"},
           {"BeamsBeyondReason", "", "generate --model @/base --prompt x --num-beams 9000000000000000000", "at most"},
           {"ChatWithoutChat", "", "generate --model @/base --prompt x --system y", "--chat"},
           {"SystemTwice", "echo '{\"messages\": [{\"role\": \"system\", \"content\": \"hi\"}]}' > p.jsonl",
            "generate --model @/base --prompts @/p.jsonl --chat --system y", "system turn of its own"},
           {"SystemIsNotUtf8", "", "generate --model @/base --chat --prompt x --system \"$(printf 'a\\377b')\"",
            "--system"},
           {"StopEmpty", "", "generate --model @/base --prompt x --stop ''", "stop"},
       }},
      {"Judging",
       {
           {"NothingToJudge", "", "eval", "recipe"},
           {"NoDataToJudgeOn", "", "eval --model @/base", "--data"},
           {"EvalMetricUnknown", "", "eval --model @/base --data @/data.jsonl --metric bleu", "exact_match"},
           {"EvalOfScratchThatNeverRan", "", "eval @/scratch.yaml output_dir=@/new", "molt train"},
           {"AnswersToPlainText", "",
            "eval --model @/base --data @/text.txt --metric exact_match data.cache_dir=$CACHE",
            "prompt and completion"},
       }},
      {"Merging",
       {
           {"MergeIntoSomething", "", "merge --model @/base --adapter @/run/adapter --out @/tok", "tok"},
           {"MergeIntoTheBase", "", "merge --model @/base --adapter @/run/adapter --out @/base", "base"},
           {"MergeBelowAFile", "", "merge --model @/base --adapter @/run/adapter --out @/good.yaml/new", "is a file"},
           {"MergeToUnknownDtype", "", "merge --model @/base --adapter @/run/adapter --out @/new --dtype int3", "bf16"},
           {"MergeOfATiedHead", "", "merge --model @/base --adapter @/headrun/adapter --out @/new", "lm_head"},
           {"MergeToUnknownFormat", "", "merge --model @/base --adapter @/run/adapter --out @/new --format onnx",
            "gguf"},
           {"MergeOfNoAdapter", "", "merge --model @/base --adapter '' --out @/new", "--adapter"},
           {"MergeToUnknownGgufDtype", "",
            "merge --model @/base --adapter @/run/adapter --out @/n --format gguf --dtype q8", "f16"},
           {"MergeToGgufNowhere", "", "merge --model @/base --adapter @/run/adapter --out @/nowhere/n --format gguf",
            "nowhere"},
           {"MergeOntoAFile", "", "merge --model @/base --adapter @/run/adapter --out @/good.yaml --format gguf",
            "good.yaml"},
       }},
      {"Converting",
       {
           {"ConvertToUnknown", "", "convert @/run/adapter --to onnx --out @/new", "peft"},
           {"ConvertMissing", "", "convert @/nowhere --to mlx --out @/new", "nowhere"},
           {"ConvertOverSomething", "", "convert @/run/adapter --to gguf --out @/good.yaml", "is there already"},
           {"ConvertARun", "", "convert @/run --to gguf --out @/new", "run/adapter"},
           {"ConvertACheckpointToMlx", "", "convert @/base --to mlx --out @/new", "--to gguf"},
           {"ConvertText", "", "convert @/good.yaml --to peft --model @/base --out @/new", "not a GGUF file"},
           {"ConvertWithoutBase", "", "convert @/good.yaml --to peft --out @/new", "--model"},
           {"ConvertATiedHead", "", "convert @/headrun/adapter --to gguf --out @/new", "tied"},
           {"ConvertOntoADirectory", "", "convert @/run/adapter --to mlx --out @/tok", "is there already"},
           {"ConvertIntoADirectoryThatIsNot", "", "convert @/run/adapter --to gguf --out @/nowhere/new.gguf",
            "nowhere"},
           {"ConvertToADirectorysName", "", "convert @/run/adapter --to gguf --out @/new/", "file"},
           {"ConvertToUnknownDtype", "", "convert @/base --to gguf --out @/new --dtype q8", "bf16"},
           {"ConvertHalfAnAdapter", "cp -r run/adapter a && rm a/adapter_model.safetensors",
            "convert @/a --to mlx --out @/new", "adapter_model.safetensors"},
           {"ConvertOnAnotherBase", "", "convert @/run/adapter --to mlx --model @/other --out @/new", "another base"},
           {"ConvertMlxWithoutConfig", "mkdir a && cp run/adapter/adapter_model.safetensors a/adapters.safetensors",
            "convert @/a --to peft --model @/base --out @/new", "adapter_config.json"},
           {"ConvertMlxOfOtherTensors",
            "mkdir a && cp run/adapter/adapter_model.safetensors a/adapters.safetensors && "
            "echo '{\"lora_parameters\": {\"scale\": 1}}' > a/adapter_config.json",
            "convert @/a --to peft --model @/base --out @/new", "no part of a LoRA pair"},
           {"ConvertGgufCutShort", "printf 'GGUF\\3\\0\\0\\0\\1\\0\\0\\0\\0\\0\\0\\0\\1\\0\\0\\0' > a.gguf",
            "convert @/a.gguf --to peft --model @/base --out @/new", "a.gguf"},
           {"ConvertGgufWithALyingCount",
            "printf 'GGUF\\3\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\377\\1\\0\\0\\0\\0\\0\\0\\0' > a.gguf",
            "convert @/a.gguf --to peft --model @/base --out @/new", "the number of tensors"},
           {"InspectOfAPipe", "mkfifo pipe.gguf", "inspect @/pipe.gguf", "a pipe"},
           {"InspectGgufCutShort", "printf 'GGUF\\3\\0\\0' > a.gguf", "inspect @/a.gguf", "a.gguf"},
       }},
      {"Searching",
       {
           {"SearchWithoutSearch", "", "search @/good.yaml", "search is missing"},
           {"SearchInAFile", "", "search @/search.yaml output_dir=@/good.yaml", "good.yaml"},
           {"SearchTriesItsMetric", "", "search @/search.yaml 'search.try={evaluation.metric: [loss]}'",
            "evaluation.metric"},
           {"SearchTriesItsDirectory", "", "search @/search.yaml 'search.try={output_dir: [a]}'", "output_dir"},
           {"SearchTriesItsMethod", "", "search @/search.yaml 'search.try={method: [full]}'", "method"},
           {"SearchWithMethodTwice", "", "search @/search.yaml search.methods.0.methods=lora", "unknown key"},
       }},
      {"Making a tokenizer",
       {
           {"TextMissing", "", "tokenizer @/nowhere.txt --out @/new", "nowhere.txt"},
           {"VocabularyTooSmall", "", "tokenizer @/text.txt --out @/new --vocabulary 10", "10"},
           {"TokenizerOverAnother", "", "tokenizer @/text.txt --out @/tok", "tok/tokenizer.json"},
           {"TextWithoutText", ": > t.txt", "tokenizer @/t.txt --out @/new", "t.txt"},
       }},
  };
  return kinds;
}

namespace {

namespace fs = std::filesystem;

using Case = BadInputCase;

std::vector<Case> every_case() {
  std::vector<Case> all;
  for (const BadInputKind& kind : bad_inputs()) all.insert(all.end(), kind.cases.begin(), kind.cases.end());
  return all;
}

TEST(BadInputList, HasAsManyRowsAsThereAreCases) {
  if (std::getenv("MOLT_WRITE_LINES")) GTEST_SKIP() << "it is being written";
  EXPECT_EQ(BadInputList().size(), static_cast<int>(every_case().size()))
      << "make bad-inputs writes docs/robustness.md";
}

class BadInput : public ::testing::TestWithParam<Case> {
 protected:
  static void SetUpTestSuite() {
    root() = fs::temp_directory_path() / ("molt_bad_input_" + std::to_string(::getpid()));
    fs::remove_all(root());
    fs::create_directories(root());
    ::setenv("GOLDEN", MOLT_SOURCE_DIR "/tests/golden", 1);
    ::setenv("CACHE", cache().c_str(), 1);
    std::ofstream(root() / "text.txt") << "one two three, four five six\nseven eight nine, ten eleven twelve\n";
    std::ofstream(root() / "bigtext.txt") << [] {
      std::string text;
      for (int i = 0; i < 4000; ++i) text += std::to_string(i * i) + (i % 8 ? " " : "\n");
      return text;
    }();
    std::ofstream(root() / "data.jsonl") << R"({"prompt": "one two", "completion": " three"}
{"prompt": "four five", "completion": " six"}
{"prompt": "seven eight", "completion": " nine"}
{"prompt": "ten eleven", "completion": " twelve"}
)";
    write("scratch.yaml",
          "from_scratch: {d_model: 16, layers: 1, d_state: 4}\ntokenizer: @/tok\noutput_dir: @/base_run\n"
          "data: {train: @/data.jsonl}\nmethod: full\nmax_steps: 1\n");
    write("good.yaml",
          "model: @/base\noutput_dir: @/new\ndata: {train: @/data.jsonl}\n"
          "method: {lora: {r: 2, target_modules: [in_proj]}}\nmax_steps: 2\n");
    write("search.yaml",
          "model: @/base\noutput_dir: @/new\ndata: {train: @/data.jsonl, validation: @/data.jsonl}\nmax_steps: 1\n"
          "search: {methods: [{name: a, method: {lora: {r: 2, target_modules: [in_proj]}}}]}\n");
    works("tokenizer @/text.txt --out @/tok --vocabulary 280");
    works("tokenizer @/bigtext.txt --out @/bigtok --vocabulary 900");
    works("train @/scratch.yaml");
    works("train @/scratch.yaml seed=7 output_dir=@/other_run");
    fs::rename(root() / "base_run" / "model", root() / "base");
    fs::rename(root() / "other_run" / "model", root() / "other");
    works("train @/good.yaml output_dir=@/run");
    works("train @/good.yaml output_dir=@/headrun method.lora.target_modules=[lm_head]");
  }
  static void TearDownTestSuite() {
    if (std::getenv("MOLT_WRITE_LINES") && rows().size() == every_case().size()) BadInputList().write(rows());
    fs::remove_all(root());
    fs::remove_all(cache());
  }

  void SetUp() override { kept_ = listing(); }
  /// Takes away what prepare() made.
  void TearDown() override {
    for (const std::string& path : listing())
      if (!kept_.count(path)) fs::remove_all(path);
  }

  /// The rows of docs/robustness.md, by case, as far as the cases have run.
  static std::map<std::string, std::string>& rows() {
    static std::map<std::string, std::string> all;
    return all;
  }
  static fs::path& root() {
    static fs::path path;
    return path;
  }
  /// For tokenised text, which may stay.
  static std::string cache() { return root().string() + "_cache"; }
  static std::string filled(std::string text) {
    for (size_t at; (at = text.find('@')) != std::string::npos;) text.replace(at, 1, root().string());
    return text;
  }
  static void write(const char* name, const std::string& text) { std::ofstream(root() / name) << filled(text); }
  static void works(const std::string& arguments) {
    const Ran ran = run_molt(filled(arguments));
    ASSERT_EQ(ran.code, 0) << arguments << "\n" << ran.err;
  }
  static std::set<std::string> listing() {
    std::set<std::string> paths;
    for (const auto& entry : fs::recursive_directory_iterator(root())) paths.insert(entry.path().string());
    return paths;
  }

  std::set<std::string> kept_;
};

TEST_P(BadInput, IsOneLineAndLeavesNothing) {
  const Case& c = GetParam();
  const std::string data = (root() / "data.jsonl").string();
  const std::string keep_data = "cp '" + data + "' '" + data + ".kept'",
                    restore = "mv '" + data + ".kept' '" + data + "'";
  ASSERT_EQ(std::system(keep_data.c_str()), 0);
  if (*c.prepare) {
    ASSERT_EQ(std::system(("cd '" + root().string() + "' && " + c.prepare).c_str()), 0);
  }
  const std::set<std::string> before = listing();
  const Ran ran = run_molt(filled(c.arguments));
  EXPECT_EQ(listing(), before);
  EXPECT_EQ(std::system(restore.c_str()), 0);
  EXPECT_EQ(ran.code, c.code) << ran.err;
  EXPECT_EQ(line_count(ran.err), 1) << ran.err;
  EXPECT_EQ(ran.err.rfind("molt: ", 0), 0u) << ran.err;
  EXPECT_TRUE(has(ran.err, c.says));
  EXPECT_EQ(ran.out, "");
  // Long enough to say what is wrong, short enough to be read; without the temporary directory's own name.
  std::string line = replaced(ran.err, cache(), "cache");
  line = replaced(replaced(line, root().string() + "/", ""), root().string(), "");
  EXPECT_LT(line.size(), 400u) << line;
  const std::string row = BadInputList::row(c, line);
  if (std::getenv("MOLT_WRITE_LINES")) {
    rows()[c.name] = row;
  } else {
    EXPECT_TRUE(BadInputList().holds(c, row)) << "make bad-inputs writes docs/robustness.md anew, with\n" << row;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, BadInput, ::testing::ValuesIn(every_case()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace molt::test
