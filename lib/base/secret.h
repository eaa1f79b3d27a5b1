// A secret in memory: it cannot be copied, formatted, compared or logged, and is wiped when it
// goes.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/status.h"

namespace muster {

class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string text);
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  ~Secret();

  bool empty() const { return text_.empty(); }
  // For the call that needs it, nothing else. Valid while the secret lives.
  std::string_view Reveal() const { return text_; }

 private:
  void Wipe();
  std::string text_;
};

// Overwrites the text's bytes in a way that the compiler keeps, then empties it.
void WipeText(std::string& text);

// What a reference names on this host: "file:/path" (its first line; the file must not be readable
// by others), "env:NAME", "systemd:NAME" (a credential of the unit). The error names the reference
// only.
StatusOr<Secret> ReadSecretReference(std::string_view reference);

}  // namespace muster
