// The texts of one question share their beginning, which is most of them. It goes through a block once, with
// a state; what follows goes on from copies of it. Where little would be saved the texts are rows of one
// batch instead, filled up on the right, where nothing looks back from.
#include "ptq/engine/likelihood.h"

#include <algorithm>
#include <map>

#include "ptq/base/interrupt.h"
#include "ptq/engine/evaluate.h"

namespace ptq {
namespace {

constexpr int64_t kWorthSharing = 64;  // tokens that need not go through, for more calls of each block

using Ids = std::vector<int64_t>;

// One question on its way through the model. A text's last token is predicted and never read.
struct Passage {
  std::vector<Ids> inputs;       // that differ
  std::vector<size_t> input_of;  // each text's
  int64_t shared = 0;            // tokens at the beginning of all inputs that go through once; or 0
  int64_t longest = 0;
  Tensor hidden;              // [inputs, longest, d_model], or [1, shared, d_model]
  std::vector<Tensor> tails;  // of each input behind those shared, [1, length, d_model]

  // That go through each block, padding included.
  int64_t tokens() const {
    if (shared == 0) return static_cast<int64_t>(inputs.size()) * longest;
    int64_t sum = shared;
    for (const Ids& input : inputs) sum += static_cast<int64_t>(input.size()) - shared;
    return sum;
  }
};

int64_t common_prefix(const std::vector<Ids>& inputs) {
  auto end = inputs.front().end();
  for (const Ids& input : inputs)
    end = std::mismatch(inputs.front().begin(), end, input.begin(), input.end()).first;
  return end - inputs.front().begin();
}

Passage passage_of(const std::vector<ScoredText>& texts) {
  Passage passage;
  std::map<Ids, size_t> known;
  for (const ScoredText& text : texts) {
    const Ids input(text.ids.begin(), text.ids.end() - 1);
    const auto [found, is_first] = known.try_emplace(input, passage.inputs.size());
    passage.input_of.push_back(found->second);
    if (is_first) passage.inputs.push_back(input);
    passage.longest = std::max(passage.longest, static_cast<int64_t>(input.size()));
  }
  const int64_t prefix = common_prefix(passage.inputs);
  const bool is_worth = prefix * (static_cast<int64_t>(passage.inputs.size()) - 1) >= kWorthSharing;
  if (is_worth) passage.shared = prefix;
  return passage;
}

Tensor row_of(const int64_t* begin, int64_t length) {
  return at::tensor(at::ArrayRef<int64_t>(begin, static_cast<size_t>(length)), at::kLong).unsqueeze(0);
}

void embed(const Model& model, Passage& passage) {
  if (passage.shared > 0) {
    passage.hidden = model.embed(row_of(passage.inputs.front().data(), passage.shared));
    for (const Ids& input : passage.inputs) {
      const int64_t length = static_cast<int64_t>(input.size()) - passage.shared;
      const Tensor tail = row_of(input.data() + passage.shared, length);
      passage.tails.push_back(length > 0 ? model.embed(tail, passage.shared) : Tensor());
    }
    return;
  }
  const Tensor ids = at::zeros({static_cast<int64_t>(passage.inputs.size()), passage.longest}, at::kLong);
  for (size_t i = 0; i < passage.inputs.size(); ++i)
    std::copy(passage.inputs[i].begin(), passage.inputs[i].end(),
              ids[static_cast<int64_t>(i)].data_ptr<int64_t>());
  passage.hidden = model.embed(ids);
}

// A state to go on from once, while `state` stays as it is. Keys and values come behind those of `state` in
// the same memory, where those of the next copy take their place: one copy is used at a time.
BlockState continued(const BlockState& state) {
  BlockState copy = state;
  for (PartState& part : copy.parts) {
    for (Tensor& tensor : part.tensors) tensor = tensor.clone();
  }
  return copy;
}

Tensor through(const Block& block, const Tensor& hidden, BlockState* state) {
  Tensor output = block.forward(hidden, state);
  expect_finite(output, block.prefix(), "the block's output");
  return output;
}

void advance(const Block& block, Passage& passage) {
  throw_if_interrupted();
  if (passage.shared == 0) {
    passage.hidden = through(block, passage.hidden, nullptr);
    return;
  }
  BlockState state = block.initial_state(1);
  for (PartState& part : state.parts) part.text_length = passage.longest;
  passage.hidden = through(block, passage.hidden, &state);
  for (Tensor& tail : passage.tails) {
    if (!tail.defined()) continue;
    BlockState own = continued(state);
    tail = through(block, tail, &own);
  }
}

// The states of the last `count` tokens of an input, [count, d_model].
Tensor last_states(const Passage& passage, size_t input, int64_t count) {
  const auto length = static_cast<int64_t>(passage.inputs[input].size());
  if (passage.shared == 0)
    return passage.hidden[static_cast<int64_t>(input)].slice(0, length - count, length);
  const int64_t of_tail = std::min(count, length - passage.shared), of_shared = count - of_tail;
  const Tensor shared = passage.hidden[0].slice(0, passage.shared - of_shared);
  if (of_tail == 0) return shared;
  return at::cat({shared, passage.tails[input][0].slice(0, length - passage.shared - of_tail)});
}

struct Target {
  int64_t row;  // of the states
  int64_t token;
  size_t text;
};

// Adds what the rows of states [rows, d_model], which begin at `first`, say of the targets that are theirs.
void add_likelihoods(const Model& model, const Tensor& states, int64_t first,
                     const std::vector<Target>& targets, std::vector<Likelihood>& sums) {
  Ids rows, tokens;
  std::vector<size_t> texts;
  for (const Target& target : targets) {
    if (target.row < first || target.row >= first + states.size(0)) continue;
    rows.push_back(target.row - first);
    tokens.push_back(target.token);
    texts.push_back(target.text);
  }
  const Tensor log_p = log_probabilities(model, states, "the model's head");
  const Tensor of_row = at::tensor(rows, at::kLong).to(log_p.device());
  const Tensor of_token = at::tensor(tokens, at::kLong).to(log_p.device());
  const Tensor values = log_p.index({of_row, of_token}).to(at::kDouble).cpu();
  const Tensor best = log_p.argmax(1).index({of_row}).cpu();
  for (size_t i = 0; i < texts.size(); ++i) {
    Likelihood& sum = sums[texts[i]];
    sum.log_likelihood += values.const_data_ptr<double>()[i];
    sum.greedy = sum.greedy && best.const_data_ptr<int64_t>()[i] == tokens[i];
  }
}

std::vector<Likelihood> likelihoods_of(const Model& model, const Passage& passage,
                                       const std::vector<ScoredText>& texts) {
  std::vector<int64_t> counts(passage.inputs.size(), 0), ends;
  for (size_t i = 0; i < texts.size(); ++i)
    counts[passage.input_of[i]] = std::max(counts[passage.input_of[i]], texts[i].scored);
  std::vector<Tensor> parts;
  int64_t rows = 0;
  for (size_t input = 0; input < counts.size(); ++input) {
    parts.push_back(last_states(passage, input, counts[input]));
    ends.push_back(rows += counts[input]);
  }
  std::vector<Target> targets;
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto length = static_cast<int64_t>(texts[i].ids.size());
    for (int64_t back = texts[i].scored; back > 0; --back)
      targets.push_back(
          {ends[passage.input_of[i]] - back, texts[i].ids[static_cast<size_t>(length - back)], i});
  }
  std::vector<Likelihood> sums(texts.size());
  const Tensor states = at::cat(parts);  // [rows, d_model]
  const int64_t step = rows_of_logits(model);
  for (int64_t begin = 0; begin < rows; begin += step)
    add_likelihoods(model, states.slice(0, begin, std::min(rows, begin + step)), begin, targets, sums);
  return sums;
}

}  // namespace

std::vector<std::vector<Likelihood>> likelihoods(const Model& model,
                                                 const std::vector<std::vector<ScoredText>>& questions,
                                                 const std::function<void(int64_t)>& on_tokens,
                                                 const Compute& compute) {
  const int64_t most_tokens = kStreamBytes / (model.hidden_size() * static_cast<int64_t>(sizeof(float)));
  std::vector<std::vector<Likelihood>> all;
  while (all.size() < questions.size()) {
    std::vector<Passage> group;
    int64_t tokens = 0;
    while (all.size() + group.size() < questions.size() && tokens < most_tokens) {
      group.push_back(passage_of(questions[all.size() + group.size()]));
      tokens += group.back().tokens();
      embed(model, group.back());
    }
    for (int64_t i = 0; i < model.num_blocks(); ++i) {
      const std::unique_ptr<Block> block = model.load_block(i);
      block->seal(compute);
      for (Passage& passage : group) {
        advance(*block, passage);
        on_tokens(passage.tokens());
      }
    }
    for (const Passage& passage : group) all.push_back(likelihoods_of(model, passage, questions[all.size()]));
  }
  return all;
}

int64_t likelihood_steps(const Model& model, const std::vector<std::vector<ScoredText>>& questions) {
  int64_t tokens = 0;
  for (const std::vector<ScoredText>& texts : questions) tokens += passage_of(texts).tokens();
  return tokens * model.num_blocks();
}

}  // namespace ptq
