;; Counts the lines, words and bytes of its standard input, as wc does: a WASI command.
;;
;;     registry run wc.wat < primes.wat
;;
;; It can read what it is given and write its answer; it sees no file and no environment.
;; Exit code 1: the input could not be read, or the answer not be written.

(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param $fd i32) (param $pieces i32) (param $n i32) (param $count i32)
      (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param $fd i32) (param $pieces i32) (param $n i32) (param $count i32)
      (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit"
    (func $proc_exit (param $code i32)))

  ;; 0: a piece (where, how long); 8: how much was read or written; 16 to 88: the answer, which is
  ;; written from its end to its start; 4096 to 65536: what was read.
  (memory (export "memory") 1)
  (global $answer (mut i32) (i32.const 88))

  (func (export "_start")
    (local $lines i64)
    (local $words i64)
    (local $bytes i64)
    (local $at i32)
    (local $end i32)
    (local $byte i32)
    (local $in_word i32)
    (block $all_read
      (loop $read
        (i32.store (i32.const 0) (i32.const 4096))
        (i32.store (i32.const 4) (i32.const 61440))
        (call $check (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br_if $all_read (i32.eqz (i32.load (i32.const 8))))
        (local.set $bytes
          (i64.add (local.get $bytes) (i64.load32_u (i32.const 8))))
        (local.set $at (i32.const 4096))
        (local.set $end (i32.add (local.get $at) (i32.load (i32.const 8))))
        (loop $next
          (local.set $byte (i32.load8_u (local.get $at)))
          (local.set $lines
            (i64.add
              (local.get $lines)
              (i64.extend_i32_u (i32.eq (local.get $byte) (i32.const 10)))))
          (if (call $is_space (local.get $byte))
            (then (local.set $in_word (i32.const 0)))
            (else
              ;; A word is counted where it starts.
              (local.set $words
                (i64.add
                  (local.get $words)
                  (i64.extend_i32_u (i32.eqz (local.get $in_word)))))
              (local.set $in_word (i32.const 1))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
        (br $read)))
    (call $prepend (i32.const 10))
    (call $prepend_number (local.get $bytes))
    (call $prepend (i32.const 32))
    (call $prepend_number (local.get $words))
    (call $prepend (i32.const 32))
    (call $prepend_number (local.get $lines))
    (call $write_answer))

  ;; Space, and the five from tab to carriage return.
  (func $is_space (param $byte i32) (result i32)
    (i32.or
      (i32.eq (local.get $byte) (i32.const 32))
      (i32.lt_u (i32.sub (local.get $byte) (i32.const 9)) (i32.const 5))))

  (func $prepend (param $byte i32)
    (global.set $answer (i32.sub (global.get $answer) (i32.const 1)))
    (i32.store8 (global.get $answer) (local.get $byte)))

  ;; In decimal digits, the last one first.
  (func $prepend_number (param $number i64)
    (loop $next
      (call $prepend
        (i32.add
          (i32.const 48)
          (i32.wrap_i64 (i64.rem_u (local.get $number) (i64.const 10)))))
      (local.set $number (i64.div_u (local.get $number) (i64.const 10)))
      (br_if $next (i64.ne (local.get $number) (i64.const 0)))))

  ;; A write may take less than it is given, so it is repeated until all is taken.
  (func $write_answer
    (loop $write
      (i32.store (i32.const 0) (global.get $answer))
      (i32.store (i32.const 4) (i32.sub (i32.const 88) (global.get $answer)))
      (call $check (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (global.set $answer (i32.add (global.get $answer) (i32.load (i32.const 8))))
      (br_if $write (i32.lt_u (global.get $answer) (i32.const 88)))))

  (func $check (param $error i32)
    (if (local.get $error)
      (then (call $proc_exit (i32.const 1))))))
