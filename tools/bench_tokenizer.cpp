// bench_tokenizer TOKENIZER.json TEXT [RUNS]: how fast a text is encoded as one string, on one thread.
//
// Prints the median over RUNS (default 9) twice: with a tokenizer that has seen no text yet, read anew for
// each run (reading is not timed), and with one that has. Also the number of tokens and a checksum of them,
// to compare with other programs: sum over i of (i + 1) * id, modulo 2^32.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "ptq/base/file.h"
#include "ptq/tokenizer/tokenizer.h"

namespace {

double encode_seconds(const ptq::Tokenizer& tokenizer, const std::string& text, std::vector<int64_t>& ids) {
  const auto start = std::chrono::steady_clock::now();
  ids = tokenizer.encode(text, false);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void run(const std::string& tokenizer_path, const std::string& text_path, int runs) {
  const std::string json = ptq::read_file(tokenizer_path);
  const std::string text = ptq::read_file(text_path);
  std::vector<int64_t> ids;
  std::vector<double> cold;
  std::vector<double> warm;
  for (int i = 0; i < runs; ++i) {
    const auto tokenizer = ptq::Tokenizer::from_json(json, tokenizer_path);
    cold.push_back(encode_seconds(*tokenizer, text, ids));
    warm.push_back(encode_seconds(*tokenizer, text, ids));
  }
  uint32_t checksum = 0;
  for (size_t i = 0; i < ids.size(); ++i)
    checksum += static_cast<uint32_t>(i + 1) * static_cast<uint32_t>(ids[i]);
  const double megabytes = static_cast<double>(text.size()) / 1e6;
  std::printf("cold %.2f MB/s, warm %.2f MB/s, %zu tokens, checksum %u\n", megabytes / median(cold),
              megabytes / median(warm), ids.size(), checksum);
}

}  // namespace

int main(int argc, char** argv) {
  const int runs = argc == 4 ? std::atoi(argv[3]) : 9;
  if (argc < 3 || argc > 4 || runs < 1) {
    std::fprintf(stderr, "usage: bench_tokenizer TOKENIZER.json TEXT [RUNS]\n");
    return 2;
  }
  try {
    run(argv[1], argv[2], runs);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
