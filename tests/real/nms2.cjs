// Runs node-media-server 2 on the loopback: it has no setting for the address that it listens on.
// node nms2.cjs FOLDER_OF_THE_PACKAGE CONFIGURATION_AS_JSON
'use strict';
const net = require('node:net');

const [, , folder, configuration] = process.argv;
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function listenOnLoopback(port, ...rest) {
  const isPort = typeof port === 'number' || typeof port === 'string';
  return listen.call(this, isPort ? { port: Number(port), host: '127.0.0.1' } : port, ...rest);
};

const NodeMediaServer = require(folder);
new NodeMediaServer(JSON.parse(configuration)).run();
