// The cluster key: 32 bytes in a file of mode 0600. What must not be read from the store alone is
// sealed under it with AES-256-GCM.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/secret.h"
#include "lib/base/status.h"

namespace muster::control {

// AlreadyExists if the file is there.
Status MakeClusterKey(const std::string& path);
// PermissionDenied if others may read it.
StatusOr<Secret> LoadClusterKey(const std::string& path);

// A random nonce, the ciphertext and its tag. `purpose` is authenticated too.
StatusOr<std::string> Seal(const Secret& key, std::string_view plain, std::string_view purpose);
// DataLoss if key, purpose or bytes are not those of Seal.
StatusOr<Secret> Unseal(const Secret& key, std::string_view sealed, std::string_view purpose);

}  // namespace muster::control
