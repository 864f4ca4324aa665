// Makes the bundled task, examples/commands: requests in plain English and the commands they mean.
//
//   make_commands DIR    writes train.jsonl (1500), validation.jsonl (200) and test.jsonl (300) into DIR
//
// Everything is drawn from fixed random numbers, so the files come out the same on every machine. All 2000 requests
// differ, hence none of the test's is in train; the three files are drawn alike, intents in equal shares.
#include <cctype>
#include <iostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/json.h"
#include "molt/base/rng.h"

namespace {

using molt::str;
using std::string;

/// A way to say something, and how the command spells it.
struct Word {
  string said, code;
};

/// One request and its command; `order` tells whether "please" fits.
struct Task {
  string request, command;
  bool order = true;
};

/// Draws one after the other. Never two draws as arguments of one call: C++ leaves their order to the compiler.
class Dice {
 public:
  explicit Dice(uint64_t seed) : rng_(seed, "commands") {}
  uint32_t below(size_t n) { return rng_.below(at_++, static_cast<uint32_t>(n)); }
  bool chance(int percent) { return below(100) < static_cast<uint32_t>(percent); }
  template <class T>
  const T& of(const std::vector<T>& values) {
    return values[below(values.size())];
  }

 private:
  molt::Rng rng_;
  uint64_t at_ = 0;
};

const std::vector<Word> kRooms = {{"kitchen", "kitchen"},   {"bedroom", "bedroom"}, {"hall", "hall"},
                                  {"study", "study"},       {"bathroom", "bath"},   {"library", "library"},
                                  {"nursery", "nursery"},   {"cellar", "cellar"},   {"dining room", "dining"},
                                  {"living room", "living"}};
const std::vector<Word> kDays = {{"Monday", "mon"}, {"Tuesday", "tue"},  {"Wednesday", "wed"}, {"Thursday", "thu"},
                                 {"Friday", "fri"}, {"Saturday", "sat"}, {"Sunday", "sun"}};
const std::vector<Word> kPeople = {{"Anna", "anna"},   {"Tom", "tom"},       {"Mary", "mary"},   {"John", "john"},
                                   {"Emma", "emma"},   {"James", "james"},   {"Clara", "clara"}, {"Henry", "henry"},
                                   {"Alice", "alice"}, {"George", "george"}, {"Lucy", "lucy"},   {"Peter", "peter"},
                                   {"Jane", "jane"},   {"Arthur", "arthur"}};
const std::vector<Word> kPlaces = {{"London", "london"}, {"Paris", "paris"},     {"Rome", "rome"},
                                   {"Dublin", "dublin"}, {"Boston", "boston"},   {"Vienna", "vienna"},
                                   {"Oxford", "oxford"}, {"New York", "newyork"}};
const std::vector<Word> kMusic = {
    {"some jazz", "jazz"},           {"a waltz", "waltz"},   {"an opera", "opera"},        {"piano music", "piano"},
    {"a violin concerto", "violin"}, {"folk songs", "folk"}, {"something quiet", "quiet"}, {"a march", "march"},
    {"dance music", "dance"},        {"the news", "news"}};
const std::vector<Word> kMessages = {{"that I will be late", "late"},
                                     {"I am running late", "late"},
                                     {"that I cannot be there in time", "late"},
                                     {"that I am on my way", "coming"},
                                     {"I shall be there soon", "coming"},
                                     {"that dinner is ready", "dinner"},
                                     {"the dinner is on the table", "dinner"},
                                     {"that I am ill", "ill"},
                                     {"I do not feel well today", "ill"},
                                     {"that I agree", "yes"},
                                     {"my answer is yes", "yes"},
                                     {"that I cannot come", "no"},
                                     {"my answer is no", "no"},
                                     {"that I have lost my key", "key"},
                                     {"I cannot find my key", "key"},
                                     {"that I thank you with all my heart", "thanks"},
                                     {"many thanks for everything", "thanks"}};
const std::vector<Word> kDuties = {
    {"pay the rent", "rent"},         {"feed the cat", "cat"},          {"water the flowers", "flowers"},
    {"write to my mother", "mother"}, {"go to the bank", "bank"},       {"see the doctor", "doctor"},
    {"post the letter", "letter"},    {"take my medicine", "medicine"}, {"lock the door", "door"},
    {"mend the fence", "fence"},      {"wash the windows", "windows"},  {"call the lawyer", "lawyer"}};
const std::vector<Word> kGoods = {{"milk", "milk"},   {"bread", "bread"},     {"butter", "butter"},
                                  {"sugar", "sugar"}, {"tea", "tea"},         {"coffee", "coffee"},
                                  {"salt", "salt"},   {"cheese", "cheese"},   {"flour", "flour"},
                                  {"soap", "soap"},   {"candles", "candles"}, {"apples", "apples"}};
const std::vector<Word> kCounted = {{"apples", "apples"},         {"eggs", "eggs"},
                                    {"lemons", "lemons"},         {"onions", "onions"},
                                    {"candles", "candles"},       {"bottles of wine", "wine"},
                                    {"loaves of bread", "bread"}, {"pounds of sugar", "sugar"},
                                    {"bottles of milk", "milk"},  {"pounds of flour", "flour"}};

/// 1 … 99 in words.
string number(int n) {
  static const std::vector<string> kSmall = {
      "zero", "one",    "two",    "three",    "four",     "five",    "six",     "seven",     "eight",    "nine",
      "ten",  "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
  static const std::vector<string> kTens = {"",      "",      "twenty",  "thirty", "forty",
                                            "fifty", "sixty", "seventy", "eighty", "ninety"};
  if (n < 20) return kSmall[static_cast<size_t>(n)];
  return kTens[static_cast<size_t>(n / 10)] + (n % 10 ? " " + kSmall[static_cast<size_t>(n % 10)] : "");
}

string two(int n) { return str(n < 10 ? "0" : "", n); }

/// A number in words or digits.
string spoken(Dice& d, int n) { return d.chance(70) ? number(n) : str(n); }

/// A clock time. Hours without a word for the part of the day are those of the morning.
Word clock_time(Dice& d) {
  if (d.chance(4)) return {"noon", "12:00"};
  if (d.chance(2)) return {"midnight", "00:00"};
  const int h = d.chance(60) ? 5 + static_cast<int>(d.below(7)) : 12 + static_cast<int>(d.below(11));
  const int m = d.chance(75) ? 15 * static_cast<int>(d.below(4)) : 5 * static_cast<int>(d.below(12));
  const string code = two(h) + ":" + two(m);
  const int twelve = h % 12 == 0 ? 12 : h % 12, after = twelve % 12 + 1;
  if (d.chance(15)) return {str(h, ":", two(m)), code};
  if (d.chance(15)) return {str(twelve, ":", two(m), h < 12 ? " am" : " pm"), code};
  string said;
  if (m == 0) {
    said = number(twelve) + (d.chance(50) ? " o'clock" : "");
  } else if (m % 15 != 0 ? d.chance(30) : d.chance(20)) {
    said = number(twelve) + " " + (m < 10 ? "oh " : "") + number(m);
  } else {
    const string part = m % 30 == 15 ? "a quarter" : number(m < 30 ? m : 60 - m);
    said =
        m == 30 ? "half past " + number(twelve) : part + (m < 30 ? " past " + number(twelve) : " to " + number(after));
  }
  if (h >= 21)
    said += " at night";
  else if (h >= 18)
    said += " in the evening";
  else if (h >= 12)
    said += " in the afternoon";
  else if (d.chance(25))
    said += " in the morning";
  return {said, code};
}

/// "on Tuesday" or "tomorrow".
Word day(Dice& d) {
  if (d.chance(20)) return {"tomorrow", "tomorrow"};
  const Word& w = d.of(kDays);
  return {(d.chance(85) ? "on " : "next ") + w.said, w.code};
}

/// " at six on Monday", " tomorrow at noon": either part may be missing, not both.
Word when(Dice& d, int day_percent = 60, int time_percent = 100) {
  const bool has_time = d.chance(time_percent), has_day = !has_time || d.chance(day_percent);
  const Word t = clock_time(d), on = day(d);
  string said, code;
  if (has_time && has_day)
    said = d.chance(70) ? " at " + t.said + " " + on.said : " " + on.said + " at " + t.said;
  else
    said = has_time ? " at " + t.said : " " + on.said;
  if (has_day) code += " day=" + on.code;
  if (has_time) code += " time=" + t.code;
  return {said, code};
}

/// Replaces each "@" by the next of the values.
string fill(const string& pattern, const std::vector<string>& values) {
  string out;
  size_t next = 0;
  for (const char c : pattern) {
    if (c == '@')
      out += values.at(next++);
    else
      out += c;
  }
  return out;
}

Task alarm(Dice& d) {
  if (d.chance(15)) {
    const Word on = day(d);
    return {fill(d.of<string>({"cancel the alarm @", "do not wake me @", "I want to sleep long @", "no alarm @"}),
                 {on.said}),
            "alarm.off day=" + on.code, false};
  }
  const Word w = when(d);
  return {fill(d.of<string>({"wake me@", "set an alarm@", "wake me up@", "get me out of bed@", "ring the bell@",
                             "see that I am awake@"}),
               {w.said}),
          "alarm.set" + w.code};
}

Task timer(Dice& d) {
  if (d.chance(10))
    return {d.of<string>({"stop the timer", "never mind the timer", "stop counting", "you need not count any longer",
                          "put an end to the timer", "the timer is no longer needed"}),
            "timer.stop", false};
  static const std::vector<Word> kSpans = {{"half an hour", "30"},
                                           {"a quarter of an hour", "15"},
                                           {"an hour", "60"},
                                           {"an hour and a half", "90"},
                                           {"two hours", "120"},
                                           {"three hours", "180"},
                                           {"three quarters of an hour", "45"}};
  const int minutes = 2 + static_cast<int>(d.below(58));
  const Word span = d.chance(30) ? d.of(kSpans) : Word{spoken(d, minutes) + " minutes", str(minutes)};
  return {fill(d.of<string>({"set a timer for @", "count @", "tell me when @ have gone by", "let me know after @",
                             "give me @ from now", "the soup must boil for @", "call me in @"}),
               {span.said}),
          "timer.start min=" + span.code, d.chance(50)};
}

Task light(Dice& d) {
  const Word& room = d.of(kRooms);
  if (d.chance(30)) {
    const int level = 10 * (1 + static_cast<int>(d.below(9)));
    const string said = spoken(d, level);
    return {fill(d.of<string>({"dim the light in the @ to @ percent", "set the lamps in the @ to @ percent",
                               "bring the @ light down to @ percent", "I want the @ lights at @ percent"}),
                 {room.said, said}),
            str("light.dim room=", room.code, " level=", level), false};
  }
  if (d.chance(50))
    return {
        fill(d.of<string>({"turn on the light in the @", "light the @", "it is too dark in the @",
                           "I cannot see anything in the @", "switch on the @ lamp", "let there be light in the @"}),
             {room.said}),
        "light.on room=" + room.code, false};
  return {fill(d.of<string>({"turn off the light in the @", "put out the lamp in the @", "it is too bright in the @",
                             "make the @ dark", "nobody needs light in the @", "switch off the @ lamp"}),
               {room.said}),
          "light.off room=" + room.code, false};
}

Task heat(Dice& d) {
  const Word& room = d.of(kRooms);
  if (d.chance(45)) {
    const int degrees = 15 + static_cast<int>(d.below(11));
    const string said = spoken(d, degrees);
    return {fill(d.of<string>({"heat the @ to @ degrees", "set the @ to @ degrees", "let the @ be @ degrees warm",
                               "keep the @ at @ degrees"}),
                 {room.said, said}),
            str("heat.set room=", room.code, " temp=", degrees)};
  }
  if (d.chance(50))
    return {fill(d.of<string>({"it is too cold in the @", "make the @ warmer", "I am freezing in the @",
                               "more heat in the @", "the @ is like ice"}),
                 {room.said}),
            "heat.up room=" + room.code, false};
  return {fill(d.of<string>({"it is too hot in the @", "make the @ cooler", "less heat in the @",
                             "the @ is like an oven", "cool the @ down"}),
               {room.said}),
          "heat.down room=" + room.code, false};
}

Task music(Dice& d) {
  const Word& room = d.of(kRooms);
  const bool here = d.chance(30);
  const string at = here ? "" : " in the " + room.said, code = here ? "" : " room=" + room.code;
  if (d.chance(55)) {
    const Word& what = d.of(kMusic);
    return {fill(d.of<string>({"play @@", "I should like to hear @@", "let us have @@", "put on @@"}), {what.said, at}),
            "music.play what=" + what.code + code};
  }
  static const std::vector<std::pair<string, std::vector<string>>> kOrders = {
      {"music.stop", {"stop the music@", "no more music@", "silence@", "I have heard enough@"}},
      {"music.up", {"louder music@", "turn up the music@", "I can hardly hear the music@"}},
      {"music.down", {"turn down the music@", "the music is too loud@", "softer music@"}},
      {"music.next", {"play the next one@", "something else@", "I do not like this song@"}}};
  const auto& [name, said] = d.of(kOrders);
  return {fill(d.of(said), {at}), name + code, false};
}

Task message(Dice& d) {
  const Word &who = d.of(kPeople), &what = d.of(kMessages);
  return {fill(d.of<string>({"tell @ @", "let @ know @", "write to @ @", "send word to @ @", "say to @ @"}),
               {who.said, what.said}),
          "message.send to=" + who.code + " say=" + what.code};
}

Task reminder(Dice& d) {
  const Word& what = d.of(kDuties);
  const Word w = when(d, 0, 50);
  return {d.chance(50)
              ? fill("remind me to @@", {what.said, w.said})
              : fill(d.of<string>({"do not let me forget to @@", "I must @@", "I have to @@", "remember that I @@"}),
                     {what.said, w.said}),
          "reminder.add what=" + what.code + w.code, false};
}

Task calendar(Dice& d) {
  const Word& who = d.of(kPeople);
  if (d.chance(25)) {
    const Word on = day(d);
    return {fill(d.of<string>({"cancel the meeting with @ @", "I cannot meet @ @", "call off my visit to @ @"}),
                 {who.said, on.said}),
            "meet.cancel who=" + who.code + " day=" + on.code, false};
  }
  if (d.chance(20)) {
    const Word on = day(d);
    return {fill(d.of<string>({"what have I to do @?", "whom do I meet @?", "what is in my diary @?", "am I free @?",
                               "show me my plans @"}),
                 {on.said}),
            "meet.list day=" + on.code, false};
  }
  const Word w = when(d, 100);
  return {fill(d.of<string>({"I meet @@", "put down a meeting with @@", "arrange a visit to @@", "I dine with @@",
                             "write into my diary that I see @@"}),
               {who.said, w.said}),
          "meet.add who=" + who.code + w.code, false};
}

Task shopping(Dice& d) {
  if (d.chance(45)) {
    const Word& item = d.of(kCounted);
    const int n = 2 + static_cast<int>(d.below(11));
    const string said = spoken(d, n);
    return {fill(d.of<string>({"put @ @ on the list", "we need @ @", "buy @ @", "add @ @ to the shopping list",
                               "bring @ @ from the market"}),
                 {said, item.said}),
            str("shop.add item=", item.code, " n=", n), false};
  }
  const Word& item = d.of(kGoods);
  if (d.chance(65))
    return {fill(d.of<string>({"we are out of @", "there is no @ left", "put @ on the list", "we need more @",
                               "buy some @", "the @ is all gone", "do not forget the @ at the market"}),
                 {item.said}),
            "shop.add item=" + item.code, false};
  return {fill(d.of<string>({"take @ off the list", "we have enough @", "no @ this time", "I have bought the @ already",
                             "we do not need any @"}),
               {item.said}),
          "shop.del item=" + item.code, false};
}

Task weather(Dice& d) {
  const Word on = day(d);
  const Word& place = d.of(kPlaces);
  const bool away = d.chance(60);
  const string at = away ? " in " + place.said : "", code = (away ? " place=" + place.code : "") + " day=" + on.code;
  static const std::vector<std::pair<string, std::vector<string>>> kQuestions = {
      {"weather.rain", {"will it rain@ @?", "shall I need an umbrella@ @?", "is rain to be expected@ @?"}},
      {"weather.temp", {"how warm will it be@ @?", "will it be cold@ @?", "what will the thermometer show@ @?"}},
      {"weather.wind", {"will there be a storm@ @?", "how strong will the wind be@ @?"}},
      {"weather.get",
       {"what will the weather be@ @?", "what kind of weather shall we have@ @?", "tell me the weather@ @"}}};
  const auto& [name, said] = d.of(kQuestions);
  return {fill(d.of(said), {at, on.said}), name + code, false};
}

/// A request as people write them: with a please or a call, an end mark, capitals; or in haste, without.
string write_down(Dice& d, const Task& task) {
  string text = task.request;
  const bool question = text.back() == '?';
  if (task.order && d.chance(30))
    text = d.chance(60) ? "please " + text : text + ", please";
  else if (d.chance(10))
    text = d.of<string>({"listen, ", "now, ", "my friend, ", "well, "}) + text;
  if (d.chance(15)) {
    for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (question) text.pop_back();
    return text;
  }
  text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  if (!question) text += d.chance(15) ? "!" : ".";
  return text;
}

void make(const string& directory) {
  static constexpr Task (*kIntents[])(Dice&) = {alarm,   timer,    light,    heat,     music,
                                                message, reminder, calendar, shopping, weather};
  static const std::vector<std::pair<string, int>> kFiles = {{"train", 1500}, {"validation", 200}, {"test", 300}};
  Dice dice(2024);
  std::set<string> seen;
  for (const auto& [name, count] : kFiles) {
    string lines;
    std::vector<int> order;  // intents in turn, shuffled, so that each file has equal shares in random order
    for (int i = 0; i < count; ++i) order.push_back(i % 10);
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[dice.below(i)]);
    for (const int intent : order) {
      Task task;
      string request, plain;
      do {
        task = kIntents[intent](dice);
        request = write_down(dice, task);
        plain.clear();  // requests that differ only in capitals and marks are the same
        for (const char c : request)
          if (std::isalnum(static_cast<unsigned char>(c)) || c == ' ') plain += static_cast<char>(std::tolower(c));
      } while (!seen.insert(plain).second);
      molt::OrderedJson line;
      line["prompt"] = request + "\n=> ";
      line["completion"] = task.command;
      lines += line.dump() + "\n";
    }
    molt::write_file_atomic(directory + "/" + name + ".jsonl", lines);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: make_commands DIR\n";
    return 2;
  }
  try {
    make(argv[1]);
  } catch (const std::exception& e) {
    std::cerr << "make_commands: " << e.what() << "\n";
    return 1;
  }
}
