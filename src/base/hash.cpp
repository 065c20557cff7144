#include "ptq/base/hash.h"

#include <openssl/evp.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"

namespace ptq {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;

// OpenSSL fails here only if SHA-256 is disabled by the system's configuration.
void check(int ok) {
  if (ok != 1) throw Error("OpenSSL", "SHA-256 is not available", "look at the system's openssl.cnf");
}

}  // namespace

struct Sha256::Context {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> evp{EVP_MD_CTX_new(), &EVP_MD_CTX_free};
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  check(EVP_DigestInit_ex(context_->evp.get(), EVP_sha256(), nullptr));
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::span<const std::byte> bytes) {
  check(EVP_DigestUpdate(context_->evp.get(), bytes.data(), bytes.size()));
}

std::string Sha256::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  check(EVP_DigestFinal_ex(context_->evp.get(), digest.data(), &size));
  assert(size == 32 && "a SHA-256 has 32 bytes");
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    text += kDigits[digest[i] >> 4];
    text += kDigits[digest[i] & 15];
  }
  return text;
}

std::string sha256_hex(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex();
}

std::string sha256_file(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"), &std::fclose);
  if (file == nullptr) throw passing_error(path, std::string("cannot open: ") + std::strerror(errno));
  Sha256 hash;
  std::vector<std::byte> piece(kPieceBytes);
  while (std::feof(file.get()) == 0) {
    throw_if_interrupted();
    const size_t got = std::fread(piece.data(), 1, piece.size(), file.get());
    if (std::ferror(file.get()) != 0)
      throw passing_error(path, std::string("cannot read: ") + std::strerror(errno));
    hash.update(std::span(piece).first(got));
  }
  return hash.hex();
}

}  // namespace ptq
