// Holds the precompiled headers of gRPC and protobuf; see CMakeLists.txt.
