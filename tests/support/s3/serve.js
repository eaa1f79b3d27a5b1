// s3rver for tests: serve.js FOLDER PORT KEY CERTIFICATE BUCKET, over TLS on 127.0.0.1.
//
// s3rver 3.7 leaves a common prefix out of a list where nothing but further folders stands right below it. pgBackRest walks its
// repository by such lists, so they are made here from one without a delimiter.
'use strict';

const fs = require('fs');
const S3rver = require('s3rver');
const FilesystemStore = require('s3rver/lib/stores/filesystem');

const listAll = FilesystemStore.prototype.listObjects;

FilesystemStore.prototype.listObjects = async function listObjects(bucket, options) {
  const { delimiter, prefix = '', maxKeys = 1000 } = options;
  if (!delimiter) return listAll.call(this, bucket, options);
  const all = await listAll.call(this, bucket, { ...options, delimiter: '', maxKeys: Infinity });
  const objects = [];
  const prefixes = new Set();
  for (const object of all.objects) {
    const end = object.key.indexOf(delimiter, prefix.length);
    if (end < 0) objects.push(object);
    else prefixes.add(object.key.slice(0, end + delimiter.length));
  }
  return {
    objects: objects.slice(0, maxKeys),
    commonPrefixes: [...prefixes].sort(),
    isTruncated: objects.length > maxKeys,
  };
};

const [directory, port, key, cert, bucket] = process.argv.slice(2);
new S3rver({
  address: '127.0.0.1',
  port: Number(port),
  directory,
  key: fs.readFileSync(key),
  cert: fs.readFileSync(cert),
  configureBuckets: [{ name: bucket }],
}).run();
