// Runs a fuzz target without libFuzzer: every file of the corpus folder, then seeded mutations of
// them.
//
//   TARGET CORPUS [MUTATIONS]      default 2000; MUSTER_SEED says with which draws
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

void Run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

std::vector<std::string> ReadCorpus(const char* folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> corpus;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return corpus;
}

std::string Mutate(std::string input, const std::vector<std::string>& corpus,
                   std::mt19937_64& random) {
  const auto below = [&](size_t bound) { return bound == 0 ? 0 : random() % bound; };
  for (size_t times = 1 + below(4); times > 0; --times) {
    const size_t at = below(input.size() + 1);
    switch (below(5)) {
      case 0: input.insert(at, 1, static_cast<char>(random())); break;
      case 1:
        if (at < input.size()) input[at] = static_cast<char>(random());
        break;
      case 2: input.erase(at, below(8)); break;
      case 3:
        if (at < input.size()) input.insert(at, input.substr(at, below(32)));
        break;
      default: {
        const std::string& other = corpus[below(corpus.size())];
        input = input.substr(0, at) + other.substr(below(other.size() + 1));
      }
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s CORPUS [MUTATIONS]\n", argv[0]);
    return 2;
  }
  const std::vector<std::string> corpus = ReadCorpus(argv[1]);
  if (corpus.empty()) {
    std::fprintf(stderr, "%s holds no file to begin with\n", argv[1]);
    return 1;
  }
  const long mutations = argc > 2 ? std::atol(argv[2]) : 2000;
  const char* seed = std::getenv("MUSTER_SEED");
  std::mt19937_64 random(seed != nullptr ? std::strtoull(seed, nullptr, 10) : 20261123);
  for (const std::string& input : corpus) Run(input);
  for (long i = 0; i < mutations; ++i)
    Run(Mutate(corpus[random() % corpus.size()], corpus, random));
  std::printf("%zu inputs and %ld mutations\n", corpus.size(), mutations);
  return 0;
}
