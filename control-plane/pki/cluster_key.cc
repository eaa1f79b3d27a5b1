#include "control-plane/pki/cluster_key.h"

#include <openssl/evp.h>
#include <sys/stat.h>

#include <memory>

#include "lib/base/file.h"
#include "lib/base/random.h"
#include "lib/base/text.h"

namespace muster::control {
namespace {

constexpr size_t kKeySize = 32;
constexpr size_t kNonceSize = 12;
constexpr size_t kTagSize = 16;

struct FreeCipher {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Cipher = std::unique_ptr<EVP_CIPHER_CTX, FreeCipher>;

const unsigned char* In(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}
unsigned char* Out(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }

}  // namespace

Status MakeClusterKey(const std::string& path) {
  if (FileExists(path)) return AlreadyExists("{} exists already", path);
  std::string key = RandomBytes(kKeySize);
  std::string text = HexEncode(key) + "\n";
  const Status written = WriteFileAtomically(path, text, 0600);
  WipeText(key);
  WipeText(text);
  return written;
}

StatusOr<Secret> LoadClusterKey(const std::string& path) {
  struct stat found {};
  if (stat(path.c_str(), &found) == 0 && (found.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return PermissionDenied("{} may be read by others; run: chmod 600 {}", path, path);
  }
  MUSTER_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  StatusOr<std::string> key = HexDecode(Trim(text));
  WipeText(text);
  if (!key.ok() || key->size() != kKeySize) {
    return DataLoss("{} does not hold a cluster key; restore it from where you keep its copy",
                    path);
  }
  Secret secret(*key);
  WipeText(*key);
  return secret;
}

StatusOr<std::string> Seal(const Secret& key, std::string_view plain, std::string_view purpose) {
  const std::string nonce = RandomBytes(kNonceSize);
  std::string sealed(plain.size(), '\0');
  std::string tag(kTagSize, '\0');
  int size = 0;
  Cipher cipher(EVP_CIPHER_CTX_new());
  const bool good =
      EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, In(key.Reveal()), In(nonce)) ==
          1 &&
      EVP_EncryptUpdate(cipher.get(), nullptr, &size, In(purpose),
                        static_cast<int>(purpose.size())) == 1 &&
      EVP_EncryptUpdate(cipher.get(), Out(sealed), &size, In(plain),
                        static_cast<int>(plain.size())) == 1 &&
      EVP_EncryptFinal_ex(cipher.get(), Out(sealed) + size, &size) == 1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTagSize, tag.data()) == 1;
  if (!good) return Internal("could not seal under the cluster key");
  return nonce + sealed + tag;
}

StatusOr<Secret> Unseal(const Secret& key, std::string_view sealed, std::string_view purpose) {
  const Status refused = DataLoss(
      "the store's secrets do not open with this cluster.key: it belongs to another store, or one "
      "of them is damaged");
  if (sealed.size() < kNonceSize + kTagSize) return refused;
  const std::string_view nonce = sealed.substr(0, kNonceSize);
  std::string tag(sealed.substr(sealed.size() - kTagSize));
  const std::string_view body = sealed.substr(kNonceSize, sealed.size() - kNonceSize - kTagSize);
  std::string plain(body.size(), '\0');
  int size = 0;
  Cipher cipher(EVP_CIPHER_CTX_new());
  const bool good =
      EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, In(key.Reveal()), In(nonce)) ==
          1 &&
      EVP_DecryptUpdate(cipher.get(), nullptr, &size, In(purpose),
                        static_cast<int>(purpose.size())) == 1 &&
      EVP_DecryptUpdate(cipher.get(), Out(plain), &size, In(body), static_cast<int>(body.size())) ==
          1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTagSize, tag.data()) == 1 &&
      EVP_DecryptFinal_ex(cipher.get(), Out(plain) + size, &size) == 1;
  if (!good) {
    WipeText(plain);
    return refused;
  }
  Secret secret(plain);
  WipeText(plain);
  return secret;
}

}  // namespace muster::control
