// npm's ssh2 as a server: commands by /bin/sh, SFTP over fs, forwards.
//
// Run by zoo.servers.npm_ssh2 with NODE_PATH set. Arguments: host key file, user, password,
// authorized_keys file, folder that is the home. Prints "ready PORT", ends with stdin.
'use strict';

const fs = require('fs');
const net = require('net');
const path = require('path');
const { spawn } = require('child_process');
const { Server, utils } = require('ssh2');

const [HOST_KEY, USER, PASSWORD, AUTHORIZED, HOME] = process.argv.slice(2);
process.chdir(HOME);
process.env.HOME = HOME;
const ALLOWED = fs.readFileSync(AUTHORIZED, 'utf8').split('\n').filter(Boolean)
  .map((line) => utils.parseKey(line));
const STATUS = utils.sftp.STATUS_CODE;
const MODE = utils.sftp.OPEN_MODE;

function authenticate(ctx) {
  if (ctx.username !== USER) return ctx.reject(['password', 'publickey']);
  if (ctx.method === 'password' && ctx.password === PASSWORD) return ctx.accept();
  if (ctx.method === 'publickey') {
    for (const key of ALLOWED) {
      if (!key.getPublicSSH().equals(ctx.key.data)) continue;
      if (!ctx.signature) return ctx.accept();
      if (key.verify(ctx.blob, ctx.signature, ctx.hashAlgo) === true) return ctx.accept();
    }
  }
  return ctx.reject(['password', 'publickey']);
}

function run(accept, reject, info) {
  const stream = accept();
  const child = spawn('/bin/sh', ['-c', info.command]);
  stream.pipe(child.stdin);
  child.stdin.on('error', () => {});
  child.stdout.on('data', (data) => {
    if (!stream.write(data)) {
      child.stdout.pause();
      stream.once('drain', () => child.stdout.resume());
    }
  });
  child.stderr.on('data', (data) => stream.stderr.write(data));
  child.on('close', (code) => {
    stream.exit(code === null ? 1 : code);
    stream.end();
  });
}

function attributes(stat) {
  return {
    mode: stat.mode, uid: stat.uid, gid: stat.gid, size: stat.size,
    atime: Math.floor(stat.atimeMs / 1000), mtime: Math.floor(stat.mtimeMs / 1000),
  };
}

function serveFiles(sftp) {
  const handles = new Map();
  let next = 0;
  const code = (error) => {
    if (!error) return STATUS.OK;
    if (error.code === 'ENOENT') return STATUS.NO_SUCH_FILE;
    return error.code === 'EACCES' ? STATUS.PERMISSION_DENIED : STATUS.FAILURE;
  };
  const done = (id) => (error) => sftp.status(id, code(error));
  const add = (what) => {
    const handle = Buffer.alloc(4);
    handle.writeUInt32BE(next++, 0);
    handles.set(handle.toString('hex'), what);
    return handle;
  };
  const get = (handle) => handles.get(handle.toString('hex'));
  const attrs = (id) => (error, stat) => (
    error ? sftp.status(id, code(error)) : sftp.attrs(id, attributes(stat)));
  const change = (id, name, wanted) => {
    try {
      if (wanted.mode !== undefined) fs.chmodSync(name, wanted.mode & 0o7777);
      if (wanted.mtime !== undefined) fs.utimesSync(name, wanted.atime, wanted.mtime);
      if (wanted.size !== undefined) fs.truncateSync(name, wanted.size);
      sftp.status(id, STATUS.OK);
    } catch (error) {
      sftp.status(id, code(error));
    }
  };
  sftp.on('OPEN', (id, name, flags, wanted) => {
    let how = (flags & MODE.WRITE) ? fs.constants.O_RDWR : fs.constants.O_RDONLY;
    if (flags & MODE.CREAT) how |= fs.constants.O_CREAT;
    if (flags & MODE.TRUNC) how |= fs.constants.O_TRUNC;
    if (flags & MODE.EXCL) how |= fs.constants.O_EXCL;
    if (flags & MODE.APPEND) how |= fs.constants.O_APPEND;
    fs.open(name, how, wanted.mode === undefined ? 0o666 : wanted.mode, (error, fd) => {
      if (error) sftp.status(id, code(error));
      else sftp.handle(id, add({ fd, name }));
    });
  });
  sftp.on('READ', (id, handle, offset, length) => {
    const data = Buffer.alloc(Math.min(length, 262144));
    fs.read(get(handle).fd, data, 0, data.length, Number(offset), (error, count) => {
      if (error) sftp.status(id, code(error));
      else if (count === 0) sftp.status(id, STATUS.EOF);
      else sftp.data(id, data.subarray(0, count));
    });
  });
  sftp.on('WRITE', (id, handle, offset, data) => {
    const copy = Buffer.from(data);
    fs.write(get(handle).fd, copy, 0, copy.length, Number(offset), done(id));
  });
  sftp.on('CLOSE', (id, handle) => {
    const what = get(handle);
    handles.delete(handle.toString('hex'));
    if (what && what.fd !== undefined) fs.close(what.fd, done(id));
    else sftp.status(id, what ? STATUS.OK : STATUS.FAILURE);
  });
  sftp.on('FSTAT', (id, handle) => fs.fstat(get(handle).fd, attrs(id)));
  sftp.on('FSETSTAT', (id, handle, wanted) => change(id, get(handle).name, wanted));
  sftp.on('SETSTAT', (id, name, wanted) => change(id, name, wanted));
  sftp.on('STAT', (id, name) => fs.stat(name, attrs(id)));
  sftp.on('LSTAT', (id, name) => fs.lstat(name, attrs(id)));
  sftp.on('OPENDIR', (id, name) => {
    fs.readdir(name, (error, names) => {
      if (error) sftp.status(id, code(error));
      else sftp.handle(id, add({ names, name }));
    });
  });
  sftp.on('READDIR', (id, handle) => {
    const what = get(handle);
    const part = what.names.splice(0, 50);
    if (!part.length) return sftp.status(id, STATUS.EOF);
    return sftp.name(id, part.map((name) => {
      const stat = fs.lstatSync(path.join(what.name, name));
      return { filename: name, longname: name, attrs: attributes(stat) };
    }));
  });
  sftp.on('REALPATH', (id, name) => {
    sftp.name(id, [{ filename: path.resolve(name), longname: name, attrs: {} }]);
  });
  sftp.on('MKDIR', (id, name) => fs.mkdir(name, done(id)));
  sftp.on('RMDIR', (id, name) => fs.rmdir(name, done(id)));
  sftp.on('REMOVE', (id, name) => fs.unlink(name, done(id)));
  sftp.on('RENAME', (id, old, name) => fs.rename(old, name, done(id)));
  sftp.on('SYMLINK', (id, link, target) => fs.symlink(target, link, done(id)));
  sftp.on('READLINK', (id, name) => fs.readlink(name, (error, target) => {
    if (error) sftp.status(id, code(error));
    else sftp.name(id, [{ filename: target, longname: target, attrs: {} }]);
  }));
}

const server = new Server({ hostKeys: [fs.readFileSync(HOST_KEY)] }, (client) => {
  client.on('error', () => {});
  client.on('authentication', authenticate);
  client.on('ready', () => {
    client.on('session', (accept) => {
      const session = accept();
      session.on('exec', run);
      session.on('sftp', (acceptFiles) => serveFiles(acceptFiles()));
    });
    client.on('tcpip', (accept, reject, info) => {
      const peer = net.connect(info.destPort, info.destIP);
      peer.once('error', () => reject());
      peer.once('connect', () => {
        const stream = accept();
        stream.on('error', () => {});
        peer.removeAllListeners('error');
        peer.on('error', () => {});
        stream.pipe(peer).pipe(stream);
      });
    });
  });
});
server.listen(0, '127.0.0.1', () => console.log('ready', server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();
