;; Prime numbers, by hand: a sieve for "how many", Miller and Rabin for "is this one".
;;
;;     registry run primes.wat --invoke count_primes 1000000     78498
;;     registry run primes.wat --invoke nth_prime 10001          104743
;;     registry run primes.wat --invoke is_prime 1000000007      1
;;     registry run primes.wat --invoke largest_factor 600851475143      6857
;;
;; All numbers are unsigned. Nothing is imported: the module can compute and do nothing else.

(module
  ;; One byte for each number: 1 where it is known to be composite. Grown as needed, never shrunk.
  (memory (export "sieve") 1)

  ;; Makes the memory hold at least `bytes` bytes, or traps where the host allows no more.
  (func $reserve (param $bytes i32)
    (local $missing i32)
    (local.set $missing
      (i32.sub
        (i32.shr_u (i32.add (local.get $bytes) (i32.const 65535)) (i32.const 16))
        (memory.size)))
    (if (i32.gt_s (local.get $missing) (i32.const 0))
      (then
        (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1))
          (then (unreachable))))))

  ;; Eratosthenes: marks every composite number up to and including `limit`. Traps from 2^31 on,
  ;; below which no sum of two numbers here can pass 2^32.
  (func $sieve (param $limit i32)
    (local $prime i32)
    (local $multiple i32)
    (if (i32.lt_s (local.get $limit) (i32.const 0))
      (then (unreachable)))
    (call $reserve (i32.add (local.get $limit) (i32.const 1)))
    (memory.fill (i32.const 0) (i32.const 0) (i32.add (local.get $limit) (i32.const 1)))
    (local.set $prime (i32.const 2))
    (block $done
      (loop $next
        ;; Beyond the root of the limit every composite number has been marked.
        (br_if $done
          (i64.gt_u
            (i64.mul
              (i64.extend_i32_u (local.get $prime))
              (i64.extend_i32_u (local.get $prime)))
            (i64.extend_i32_u (local.get $limit))))
        (if (i32.eqz (i32.load8_u (local.get $prime)))
          (then
            (local.set $multiple (i32.mul (local.get $prime) (local.get $prime)))
            (loop $mark
              (i32.store8 (local.get $multiple) (i32.const 1))
              (local.set $multiple (i32.add (local.get $multiple) (local.get $prime)))
              (br_if $mark (i32.le_u (local.get $multiple) (local.get $limit))))))
        (local.set $prime (i32.add (local.get $prime) (i32.const 1)))
        (br $next))))

  ;; How many primes there are up to and including `limit`.
  (func $count_primes (export "count_primes") (param $limit i32) (result i32)
    (local $number i32)
    (local $count i32)
    (if (i32.lt_u (local.get $limit) (i32.const 2))
      (then (return (i32.const 0))))
    (call $sieve (local.get $limit))
    (local.set $number (i32.const 2))
    (loop $next
      (local.set $count
        (i32.add (local.get $count) (i32.eqz (i32.load8_u (local.get $number)))))
      (local.set $number (i32.add (local.get $number) (i32.const 1)))
      (br_if $next (i32.le_u (local.get $number) (local.get $limit))))
    (local.get $count))

  ;; The prime with the given rank; the first one is 2. Traps for rank 0.
  (func $nth_prime (export "nth_prime") (param $rank i32) (result i32)
    (local $limit i32)
    (local $number i32)
    (if (i32.eqz (local.get $rank))
      (then (unreachable)))
    ;; Double the sieve until it holds enough primes, then walk it.
    (local.set $limit (i32.const 64))
    (loop $double
      (local.set $limit (i32.shl (local.get $limit) (i32.const 1)))
      (br_if $double (i32.lt_u (call $count_primes (local.get $limit)) (local.get $rank))))
    (local.set $number (i32.const 1))
    (loop $next
      (local.set $number (i32.add (local.get $number) (i32.const 1)))
      (local.set $rank
        (i32.sub (local.get $rank) (i32.eqz (i32.load8_u (local.get $number)))))
      (br_if $next (local.get $rank)))
    (local.get $number))

  ;; How many pairs of primes up to and including `limit` are two apart.
  (func (export "count_twins") (param $limit i32) (result i32)
    (local $number i32)
    (local $count i32)
    (if (i32.lt_u (local.get $limit) (i32.const 5))
      (then (return (i32.const 0))))
    (call $sieve (local.get $limit))
    (local.set $number (i32.const 5))
    (loop $next
      (if (i32.eqz
            (i32.or
              (i32.load8_u (local.get $number))
              (i32.load8_u (i32.sub (local.get $number) (i32.const 2)))))
        (then (local.set $count (i32.add (local.get $count) (i32.const 1)))))
      (local.set $number (i32.add (local.get $number) (i32.const 1)))
      (br_if $next (i32.le_u (local.get $number) (local.get $limit))))
    (local.get $count))

  ;; a * b modulo m, for numbers whose product may not fit: doubles and adds, bit by bit.
  (func $multiply (param $a i64) (param $b i64) (param $m i64) (result i64)
    (local $sum i64)
    (block $done
      (loop $next
        (br_if $done (i64.eqz (local.get $b)))
        (if (i64.ne (i64.and (local.get $b) (i64.const 1)) (i64.const 0))
          (then (local.set $sum (call $add (local.get $sum) (local.get $a) (local.get $m)))))
        (local.set $a (call $add (local.get $a) (local.get $a) (local.get $m)))
        (local.set $b (i64.shr_u (local.get $b) (i64.const 1)))
        (br $next)))
    (local.get $sum))

  ;; a + b modulo m, for a and b below m, without ever passing 2^64.
  (func $add (param $a i64) (param $b i64) (param $m i64) (result i64)
    (if (result i64) (i64.ge_u (local.get $a) (i64.sub (local.get $m) (local.get $b)))
      (then (i64.sub (local.get $a) (i64.sub (local.get $m) (local.get $b))))
      (else (i64.add (local.get $a) (local.get $b)))))

  ;; base to the power of exponent, modulo m.
  (func $power (param $base i64) (param $exponent i64) (param $m i64) (result i64)
    (local $product i64)
    (local.set $product (i64.const 1))
    (block $done
      (loop $next
        (br_if $done (i64.eqz (local.get $exponent)))
        (if (i64.ne (i64.and (local.get $exponent) (i64.const 1)) (i64.const 0))
          (then
            (local.set $product
              (call $multiply (local.get $product) (local.get $base) (local.get $m)))))
        (local.set $base (call $multiply (local.get $base) (local.get $base) (local.get $m)))
        (local.set $exponent (i64.shr_u (local.get $exponent) (i64.const 1)))
        (br $next)))
    (local.get $product))

  ;; Whether `witness` fails to prove that the odd number `n` is composite (Miller and Rabin).
  (func $passes (param $n i64) (param $witness i64) (result i32)
    (local $odd i64)
    (local $halvings i64)
    (local $x i64)
    (local.set $witness (i64.rem_u (local.get $witness) (local.get $n)))
    (if (i64.eqz (local.get $witness))
      (then (return (i32.const 1))))
    ;; n - 1 = odd * 2^halvings
    (local.set $halvings (i64.ctz (i64.sub (local.get $n) (i64.const 1))))
    (local.set $odd (i64.shr_u (i64.sub (local.get $n) (i64.const 1)) (local.get $halvings)))
    (local.set $x (call $power (local.get $witness) (local.get $odd) (local.get $n)))
    (if (i64.eq (local.get $x) (i64.const 1))
      (then (return (i32.const 1))))
    (loop $square
      (if (i64.eq (local.get $x) (i64.sub (local.get $n) (i64.const 1)))
        (then (return (i32.const 1))))
      (local.set $x (call $multiply (local.get $x) (local.get $x) (local.get $n)))
      (local.set $halvings (i64.sub (local.get $halvings) (i64.const 1)))
      (br_if $square (i64.ne (local.get $halvings) (i64.const 0))))
    (i32.const 0))

  ;; Whether `n` is prime, exactly, for every 64-bit number: these witnesses suffice below 3.3e24.
  (func $is_prime (export "is_prime") (param $n i64) (result i32)
    (if (i64.lt_u (local.get $n) (i64.const 4))
      (then (return (i64.ge_u (local.get $n) (i64.const 2)))))
    (if (i64.eqz (i64.and (local.get $n) (i64.const 1)))
      (then (return (i32.const 0))))
    (if (i32.eqz (call $passes (local.get $n) (i64.const 2))) (then (return (i32.const 0))))
    (if (i32.eqz (call $passes (local.get $n) (i64.const 3))) (then (return (i32.const 0))))
    (if (i32.eqz (call $passes (local.get $n) (i64.const 5))) (then (return (i32.const 0))))
    (if (i32.eqz (call $passes (local.get $n) (i64.const 7))) (then (return (i32.const 0))))
    (if (i32.eqz (call $passes (local.get $n) (i64.const 11))) (then (return (i32.const 0))))
    (if (i32.eqz (call $passes (local.get $n) (i64.const 13))) (then (return (i32.const 0))))
    (if (i32.eqz (call $passes (local.get $n) (i64.const 17))) (then (return (i32.const 0))))
    (if (i32.eqz (call $passes (local.get $n) (i64.const 19))) (then (return (i32.const 0))))
    (if (i32.eqz (call $passes (local.get $n) (i64.const 23))) (then (return (i32.const 0))))
    (if (i32.eqz (call $passes (local.get $n) (i64.const 29))) (then (return (i32.const 0))))
    (if (i32.eqz (call $passes (local.get $n) (i64.const 31))) (then (return (i32.const 0))))
    (call $passes (local.get $n) (i64.const 37)))

  ;; The largest prime that divides `n`, by trial division up to the root of what is left of it.
  (func (export "largest_factor") (param $n i64) (result i64)
    (local $divisor i64)
    (local $largest i64)
    (local.set $divisor (i64.const 2))
    (block $done
      (loop $next
        ;; divisor > n / divisor says "beyond the root" without passing 2^64.
        (br_if $done
          (i64.gt_u (local.get $divisor) (i64.div_u (local.get $n) (local.get $divisor))))
        (if (i64.eqz (i64.rem_u (local.get $n) (local.get $divisor)))
          (then
            (local.set $largest (local.get $divisor))
            (local.set $n (i64.div_u (local.get $n) (local.get $divisor))))
          (else (local.set $divisor (i64.add (local.get $divisor) (i64.const 1)))))
        (br $next)))
    (if (result i64) (i64.gt_u (local.get $n) (i64.const 1))
      (then (local.get $n))
      (else (local.get $largest)))))
