// A disk that fills up soon. Needs the right to mount; where that is missing it is not mounted, and
// the test skips itself.
#pragma once

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace muster::testing {

class SmallDisk {
 public:
  // `size` as "3m". Mounted at the path, which is made.
  SmallDisk(std::string path, const std::string& size) : path_(std::move(path)) {
    ::mkdir(path_.c_str(), 0700);
    const std::string options = "mode=0700,size=" + size;
    mounted_ = ::mount("tmpfs", path_.c_str(), "tmpfs", 0, options.c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool mounted() const { return mounted_; }

  void Fill() const {
    std::ofstream file(path_ + "/filler", std::ios::binary);
    const std::string block(512, 'x');
    while (file.write(block.data(), 512).flush()) {
    }
  }
  void MakeRoom() const { ::unlink((path_ + "/filler").c_str()); }

 private:
  const std::string path_;
  bool mounted_ = false;
};

}  // namespace muster::testing
