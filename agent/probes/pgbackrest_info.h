// What pgBackRest says of a stanza, and what is in its archive of the log: pure reading of what its
// `info`, `verify` and `repo-ls` write. Nothing of it is believed to be complete.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/time/time.h>

#include "lib/base/status.h"

namespace muster::agent {

struct StanzaBackup {
  std::string label;
  std::string type;                     // "full", "diff", "incr"
  std::string prior;                    // that it needs, if any
  std::vector<std::string> references;  // all that it needs
  absl::Time start;
  absl::Time stop;
  std::string first_segment;
  std::string last_segment;
  uint64_t bytes = 0;         // of the server
  uint64_t stored_bytes = 0;  // in the repository, with what it needs of others
  bool has_errors = false;    // pages with a wrong checksum
  int64_t database = 0;       // which of the stanza's servers
  std::string job;            // by its annotations
  std::string run;
};

struct StanzaServer {
  int64_t id = 0;
  std::string system_identifier;
  std::string version;  // "15"
};

struct StanzaInfo {
  std::string name;
  std::vector<StanzaBackup> backups;  // oldest first
  std::vector<StanzaServer> servers;
  // Of the archive of the newest server: "15-1".
  std::string archive_id;
  bool locked = false;  // somebody takes a backup, or removes one

  // The newest; null if the stanza knows of none.
  const StanzaServer* server() const;
  const StanzaServer* ServerOf(const StanzaBackup& backup) const;
  const StanzaBackup* Find(std::string_view label) const;
  // "15-1": where the log of that backup is.
  std::string ArchiveOf(const StanzaBackup& backup) const;
  // "main:7713270384534136766"
  std::string RepositoryId(const StanzaServer& server) const;
};

// Of the JSON of `info`, for one stanza and repository. An error says what to do: NotFound where
// the stanza was never made, PermissionDenied where its files cannot be read or decrypted.
StatusOr<StanzaInfo> ReadStanzaInfo(std::string_view json, const std::string& stanza,
                                    uint32_t repository);

// Segments of one server's log that are in the archive, by their names.
class WalArchive {
 public:
  struct Segment {
    uint32_t timeline = 0;
    uint64_t number = 0;
    auto operator<=>(const Segment&) const = default;
  };
  // Of the JSON of `repo-ls --recurse archive/STANZA`; `archive_id` is a folder there. A segment's
  // size in bytes is guessed where nobody knows it. DataLoss for what is no such list.
  static StatusOr<WalArchive> Read(std::string_view json, const std::string& archive_id,
                                   uint64_t segment_size = 0);

  bool empty() const { return times_.empty(); }
  std::optional<Segment> Parse(std::string_view name) const;
  std::string Name(const Segment& segment) const;
  bool Has(const Segment& segment) const { return times_.contains(segment); }
  // Of the newest timeline; there is one.
  Segment newest() const { return times_.rbegin()->first; }
  absl::Time TimeOf(const Segment& segment) const { return times_.at(segment); }
  // The largest number of any timeline; 0 without any.
  uint64_t highest() const;

  // What is missing from the segment on up to the newest one, also where a timeline begins.
  struct Gap {
    Segment first;
    Segment last;
    uint64_t size() const { return last.number - first.number + 1; }
  };
  std::vector<Gap> GapsFrom(const Segment& first) const;
  // When the first segment behind the gap was archived.
  absl::Time TimeBehind(const Gap& gap) const;
  // The first one that is missing of a backup's own.
  std::optional<Segment> MissingOf(const Segment& first, const Segment& last) const;
  // The newest segment that the log leads to from this one, without a gap; nullopt if that one is
  // missing itself.
  std::optional<Segment> LeadsTo(const Segment& first) const;
  // "000000010000000000000005", or "… to …".
  std::string GapText(const Gap& gap) const;

 private:
  void GuessSize(const std::vector<std::string>& names);

  std::map<Segment, absl::Time> times_;  // when it was archived
  uint64_t per_log_ = 256;               // segments in 4 GiB of log: by the size of one
};

// Of the text of `verify --output=text --verbose`, and of what it writes at log level info:
// DataLoss names what of this backup, or of the log from its first segment on, is not what was
// stored. `files`: how many of its files were read.
Status ReadVerified(std::string_view out, std::string_view log, const StanzaBackup& backup,
                    const std::string& archive_id, uint64_t& files);

}  // namespace muster::agent
